output "client_endpoint" {
  description = "Host by which clients reach the cluster, at port 7400."
  value       = module.alluvium.client_endpoint
}

output "nodes" {
  description = "The nodes."
  value       = module.alluvium.nodes
}

output "ansible_inventory" {
  description = "Inventory for the playbooks: terraform output -raw ansible_inventory."
  value       = module.alluvium.ansible_inventory
}
