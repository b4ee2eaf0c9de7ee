output "nodes" {
  description = "Name, zone, private address and id of every node."
  value = [for index, node in local.nodes : {
    name       = node.name
    zone       = azurerm_linux_virtual_machine.node[index].zone
    private_ip = node.address
    id         = azurerm_linux_virtual_machine.node[index].id
  }]
}

output "client_endpoint" {
  description = "Host by which clients reach any node that is ready, at port 7400."
  value       = azurerm_lb.clients.frontend_ip_configuration[0].private_ip_address
}

output "join" {
  description = "What another site's module takes as `join`."
  value       = local.seeds
}

output "cidr" {
  description = "Addresses of this site: another one's `peer_cidrs`."
  value       = var.cidr
}

output "network" {
  description = "Id and resource group of the network, to link sites with."
  value       = { id = azurerm_virtual_network.this.id, resource_group = azurerm_resource_group.this.name }
}

output "ansible_inventory" {
  description = "Inventory for the playbooks, as YAML."
  value = yamlencode({
    node = {
      hosts = { for node in local.nodes : node.name => {
        ansible_host = node.address
        node_zone    = "${var.region}-${node.zone}"
      } }
      vars = { ansible_user = "admin0", node_insecure = true }
    }
  })
}
