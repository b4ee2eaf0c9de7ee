output "nodes" {
  description = "Name, zone, private address and id of every node."
  value = [for index, node in local.nodes : {
    name       = node.name
    zone       = local.zones[node.zone]
    private_ip = node.address
    id         = aws_instance.node[index].id
  }]
}

output "client_endpoint" {
  description = "Host by which clients reach any node that is ready, at port 7400."
  value       = aws_lb.clients.dns_name
}

output "join" {
  description = "What another site's module takes as `join`."
  value       = local.seeds
}

output "cidr" {
  description = "Addresses of this site: another one's `peer_cidrs`."
  value       = aws_vpc.this.cidr_block
}

output "network" {
  description = "Ids of the network and of its nodes' route table, to link sites with."
  value       = { id = aws_vpc.this.id, route_table_id = aws_route_table.nodes.id }
}

output "ansible_inventory" {
  description = "Inventory for the playbooks, as YAML."
  value = yamlencode({
    node = {
      hosts = { for index, node in local.nodes : node.name => {
        ansible_host = node.address
        node_zone    = local.zones[node.zone]
      } }
      vars = { ansible_user = "admin", node_insecure = true }
    }
  })
}
