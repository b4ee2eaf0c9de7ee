mock_provider "aws" {}
mock_provider "azurerm" {}

variables {
  package_url    = "https://example.org/alluvium.deb"
  package_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
  ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample administrator"
}

run "one_cluster" {
  command = plan
  assert {
    condition     = module.azure.join == module.aws.join
    error_message = "The nodes at Azure join those at AWS."
  }
  assert {
    condition     = length(yamldecode(output.ansible_inventory).node.hosts) == 5
    error_message = "The inventory has the nodes of both clouds."
  }
  assert {
    condition     = module.aws.cidr != module.azure.cidr
    error_message = "Two networks that are linked have different addresses."
  }
}
