provider "azurerm" {
  features {}
}

module "alluvium" {
  source          = "../../modules/azure"
  name            = "events"
  region          = var.region
  node_count      = var.node_count
  package_url     = var.package_url
  package_sha256  = var.package_sha256
  ssh_public_key  = var.ssh_public_key
  trusted_network = true
}
