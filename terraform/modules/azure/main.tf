# The machines and their data volumes.

locals {
  tags = merge(var.tags, { "alluvium-cluster" = var.name })

  nodes = [for index in range(var.node_count) : {
    name = "${var.name}-${index}"
    zone = var.zones[index % length(var.zones)]
    # The first addresses of a network are the cloud's own; the last before these is the balancer's.
    address = cidrhost(local.node_cidr, 16 + index)
  }]
  # The first three: more nodes leave what the others were given as it is.
  first = [for node in slice(local.nodes, 0, min(3, var.node_count)) : node.address]
  seeds = length(var.join) == 0 ? local.first : var.join
}

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.region
  tags     = local.tags
}

# Outlives its machine: a new image or type replaces the machine alone.
resource "azurerm_managed_disk" "data" {
  #checkov:skip=CKV_AZURE_93:the platform encrypts every disk; another key is a variable
  #checkov:skip=CKV_AZURE_251:the access policy below denies all access from networks
  count                         = var.node_count
  name                          = "${local.nodes[count.index].name}-data"
  location                      = azurerm_resource_group.this.location
  resource_group_name           = azurerm_resource_group.this.name
  storage_account_type          = "Premium_LRS"
  create_option                 = "Empty"
  disk_size_gb                  = var.volume_gb
  zone                          = local.nodes[count.index].zone
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  disk_encryption_set_id        = var.kms_key_id == "" ? null : var.kms_key_id
  tags                          = local.tags
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
    { key = "cloud", value = "azure" },
    { key = "region", value = var.region },
    { key = "zone", value = "${var.region}-${local.nodes[count.index].zone}" },
  ]
  # By its number, as the machine's own rules name it, older and newer.
  devices = ["/dev/disk/azure/scsi1/lun10", "/dev/disk/azure/data/by-lun/10"]
}

resource "azurerm_network_interface" "node" {
  count                          = var.node_count
  name                           = local.nodes[count.index].name
  location                       = azurerm_resource_group.this.location
  resource_group_name            = azurerm_resource_group.this.name
  accelerated_networking_enabled = true
  tags                           = local.tags

  ip_configuration {
    name                          = "internal"
    subnet_id                     = azurerm_subnet.nodes.id
    private_ip_address_allocation = "Static"
    private_ip_address            = local.nodes[count.index].address
  }
}

resource "azurerm_linux_virtual_machine" "node" {
  count                           = var.node_count
  name                            = local.nodes[count.index].name
  location                        = azurerm_resource_group.this.location
  resource_group_name             = azurerm_resource_group.this.name
  size                            = var.machine_type
  zone                            = local.nodes[count.index].zone
  admin_username                  = "admin0"
  disable_password_authentication = true
  allow_extension_operations      = false
  network_interface_ids           = [azurerm_network_interface.node[count.index].id]
  custom_data                     = base64encode(module.user_data[count.index].user_data)
  source_image_id                 = var.image_id == "" ? null : var.image_id
  tags                            = local.tags

  admin_ssh_key {
    username   = "admin0"
    public_key = var.ssh_public_key
  }

  os_disk {
    caching                = "ReadWrite"
    storage_account_type   = "Premium_LRS"
    disk_encryption_set_id = var.kms_key_id == "" ? null : var.kms_key_id
  }

  dynamic "source_image_reference" {
    for_each = var.image_id == "" ? ["newest"] : []
    content {
      publisher = "Debian"
      offer     = "debian-12"
      sku       = "12-gen2"
      version   = "latest"
    }
  }

  lifecycle {
    # A newer image must not replace every node at once: -replace does one at a time.
    ignore_changes = [source_image_id, source_image_reference, custom_data]
  }
}

resource "azurerm_virtual_machine_data_disk_attachment" "data" {
  count              = var.node_count
  managed_disk_id    = azurerm_managed_disk.data[count.index].id
  virtual_machine_id = azurerm_linux_virtual_machine.node[count.index].id
  lun                = 10
  caching            = "None"
}
