# The machines and their data volumes.

data "aws_ami" "debian" {
  count       = var.image_id == "" ? 1 : 0
  most_recent = true
  owners      = ["136693071363"]
  filter {
    name   = "name"
    values = ["debian-12-${local.processor}-*"]
  }
}

locals {
  tags = merge(var.tags, { "alluvium:cluster" = var.name })
  # Types with a g after their generation have an ARM processor.
  processor = can(regex("^[a-z]+[0-9]+g", var.machine_type)) ? "arm64" : "amd64"
  image     = var.image_id != "" ? var.image_id : data.aws_ami.debian[0].id
  zones     = [for zone in var.zones : "${var.region}${zone}"]

  nodes = [for index in range(var.node_count) : {
    name = "${var.name}-${index}"
    zone = index % length(var.zones)
    # The first addresses of a network are the cloud's own.
    address = cidrhost(local.node_cidrs[index % length(var.zones)], 16 + floor(index / length(var.zones)))
  }]
  # The first three: more nodes leave what the others were given as it is.
  first = [for node in slice(local.nodes, 0, min(3, var.node_count)) : node.address]
  seeds = length(var.join) == 0 ? local.first : var.join
}

resource "aws_key_pair" "administrator" {
  count      = var.ssh_public_key == "" ? 0 : 1
  key_name   = var.name
  public_key = var.ssh_public_key
  tags       = local.tags
}

# Outlives its machine: a new image or type replaces the machine alone.
resource "aws_ebs_volume" "data" {
  count             = var.node_count
  availability_zone = local.zones[local.nodes[count.index].zone]
  size              = var.volume_gb
  type              = "gp3"
  encrypted         = true
  kms_key_id        = var.kms_key_id == "" ? null : var.kms_key_id
  tags              = merge(local.tags, { Name = "${local.nodes[count.index].name}-data" })
  lifecycle {
    prevent_destroy = true
  }
}

module "user_data" {
  source          = "../cloud-init"
  count           = var.node_count
  name            = local.nodes[count.index].name
  address         = local.nodes[count.index].address
  seeds           = local.seeds
  trusted_network = var.trusted_network
  package_url     = var.package_url
  package_sha256  = var.package_sha256
  extra_config    = var.extra_config
  locality = [
    { key = "cloud", value = "aws" },
    { key = "region", value = var.region },
    { key = "zone", value = local.zones[local.nodes[count.index].zone] },
  ]
  # By its id where the machine shows volumes as NVMe disks, else by the name of the attachment.
  devices = [
    "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data[count.index].id, "-", "")}",
    "/dev/sdf",
    "/dev/xvdf",
  ]
}

# Outlives its machine too: another one has the same address.
resource "aws_network_interface" "node" {
  count           = var.node_count
  description     = "Node ${local.nodes[count.index].name}"
  subnet_id       = aws_subnet.nodes[local.nodes[count.index].zone].id
  private_ips     = [local.nodes[count.index].address]
  security_groups = [aws_security_group.node.id]
  tags            = merge(local.tags, { Name = local.nodes[count.index].name })
}

# A node asks the cloud for nothing, so it has no role there.
resource "aws_instance" "node" {
  #checkov:skip=CKV2_AWS_41:a node asks the cloud for nothing and needs no role
  count         = var.node_count
  ami           = local.image
  instance_type = var.machine_type
  key_name      = var.ssh_public_key == "" ? null : aws_key_pair.administrator[0].key_name
  user_data     = module.user_data[count.index].user_data
  ebs_optimized = true
  monitoring    = true
  tags          = merge(local.tags, { Name = local.nodes[count.index].name })

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.node[count.index].id
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  root_block_device {
    encrypted   = true
    kms_key_id  = var.kms_key_id == "" ? null : var.kms_key_id
    volume_type = "gp3"
    volume_size = 16
  }

  lifecycle {
    # A newer image must not replace every node at once: -replace does one at a time.
    ignore_changes = [ami, user_data]
  }
}

resource "aws_volume_attachment" "data" {
  count       = var.node_count
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data[count.index].id
  instance_id = aws_instance.node[count.index].id
  # The file system is clean before the volume goes to another machine.
  stop_instance_before_detaching = true
}
