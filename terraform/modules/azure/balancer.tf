# One address for clients, which leads to the nodes that say they are ready.

locals {
  client_ports = { grpc = 7400, pg = 7432 }
}

resource "azurerm_lb" "clients" {
  name                = var.name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  sku                 = "Standard"
  tags                = local.tags

  frontend_ip_configuration {
    name                          = "clients"
    subnet_id                     = azurerm_subnet.nodes.id
    private_ip_address_allocation = "Static"
    private_ip_address            = cidrhost(local.node_cidr, 15)
    zones                         = var.zones
  }
}

resource "azurerm_lb_backend_address_pool" "nodes" {
  name            = "nodes"
  loadbalancer_id = azurerm_lb.clients.id
}

resource "azurerm_lb_probe" "ready" {
  name                = "ready"
  loadbalancer_id     = azurerm_lb.clients.id
  protocol            = "Http"
  port                = 7402
  request_path        = "/readyz"
  interval_in_seconds = 10
  number_of_probes    = 2
}

resource "azurerm_lb_rule" "clients" {
  for_each                       = local.client_ports
  name                           = each.key
  loadbalancer_id                = azurerm_lb.clients.id
  protocol                       = "Tcp"
  frontend_port                  = each.value
  backend_port                   = each.value
  frontend_ip_configuration_name = "clients"
  backend_address_pool_ids       = [azurerm_lb_backend_address_pool.nodes.id]
  probe_id                       = azurerm_lb_probe.ready.id
}

resource "azurerm_network_interface_backend_address_pool_association" "node" {
  count                   = var.node_count
  network_interface_id    = azurerm_network_interface.node[count.index].id
  ip_configuration_name   = "internal"
  backend_address_pool_id = azurerm_lb_backend_address_pool.nodes.id
}
