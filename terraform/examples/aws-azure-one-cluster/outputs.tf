output "client_endpoints" {
  description = "Hosts by which clients reach the cluster, at port 7400, in each cloud."
  value       = { aws = module.aws.client_endpoint, azure = module.azure.client_endpoint }
}

output "network_links" {
  description = "What the link between the two networks connects."
  value       = { aws = module.aws.network, azure = module.azure.network }
}

output "ansible_inventory" {
  description = "Inventory of both clouds for the playbooks."
  value = yamlencode({
    node = {
      hosts = merge(
        yamldecode(module.aws.ansible_inventory).node.hosts,
        yamldecode(module.azure.ansible_inventory).node.hosts,
      )
      vars = { node_insecure = true }
    }
  })
}
