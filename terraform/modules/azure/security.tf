# Who reaches which port.

resource "azurerm_network_security_group" "node" {
  name                = "${var.name}-node"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

locals {
  clients = concat([var.cidr], var.client_cidrs)
  allowed = merge(
    {
      # Nodes of this site and of others ask each other, and forward what clients ask them.
      peers      = { priority = 100, port = "7401", from = concat([local.node_cidr], var.peer_cidrs) }
      client     = { priority = 110, port = "7400", from = local.clients }
      health     = { priority = 120, port = "7402", from = local.clients }
      postgresql = { priority = 130, port = "7432", from = local.clients }
    },
    { administrator = { priority = 140, port = "22", from = local.clients } },
  )
}

resource "azurerm_network_security_rule" "allowed" {
  for_each                    = local.allowed
  name                        = each.key
  priority                    = each.value.priority
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = each.value.port
  source_address_prefixes     = each.value.from
  destination_address_prefix  = "*"
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.node.name
}

resource "azurerm_network_security_rule" "probe" {
  name                        = "probe"
  priority                    = 200
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = "7402"
  source_address_prefix       = "AzureLoadBalancer"
  destination_address_prefix  = "*"
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.node.name
}

# Networks trust each other by default; here only what is said above comes in.
resource "azurerm_network_security_rule" "nothing_else" {
  name                        = "nothing-else"
  priority                    = 4000
  direction                   = "Inbound"
  access                      = "Deny"
  protocol                    = "*"
  source_port_range           = "*"
  destination_port_range      = "*"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.node.name
}

resource "azurerm_subnet_network_security_group_association" "nodes" {
  subnet_id                 = azurerm_subnet.nodes.id
  network_security_group_id = azurerm_network_security_group.node.id
}
