# A network of its own: machines without public addresses, a way out for packages, none in.

locals {
  node_cidrs = [for index in range(length(var.zones)) : cidrsubnet(var.cidr, 8, index)]
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:flow logs are for who runs the account to decide
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

# Nobody uses it, so nobody may.
resource "aws_default_security_group" "unused" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-unused" })
}

resource "aws_subnet" "nodes" {
  count                   = length(var.zones)
  vpc_id                  = aws_vpc.this.id
  availability_zone       = local.zones[count.index]
  cidr_block              = local.node_cidrs[count.index]
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-${local.zones[count.index]}" })
}

resource "aws_subnet" "way_out" {
  vpc_id                  = aws_vpc.this.id
  availability_zone       = local.zones[0]
  cidr_block              = cidrsubnet(var.cidr, 8, 255)
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-way-out" })
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_eip" "way_out" {
  domain     = "vpc"
  tags       = merge(local.tags, { Name = "${var.name}-way-out" })
  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  allocation_id = aws_eip.way_out.id
  subnet_id     = aws_subnet.way_out.id
  tags          = merge(local.tags, { Name = var.name })
}

resource "aws_route_table" "way_out" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-way-out" })
}

resource "aws_route" "way_out" {
  route_table_id         = aws_route_table.way_out.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "way_out" {
  subnet_id      = aws_subnet.way_out.id
  route_table_id = aws_route_table.way_out.id
}

resource "aws_route_table" "nodes" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-nodes" })
}

# A route of its own, so that another site's routes can stand beside it.
resource "aws_route" "nodes" {
  route_table_id         = aws_route_table.nodes.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this.id
}

resource "aws_route_table_association" "nodes" {
  count          = length(var.zones)
  subnet_id      = aws_subnet.nodes[count.index].id
  route_table_id = aws_route_table.nodes.id
}
