# One cluster over two clouds: three nodes at AWS begin it, two at Azure join them. What links the
# two networks (a VPN, or a line of a carrier) is for who runs them to choose: `network_links` names
# what it connects. The nodes know where they stand by `cloud=`, `region=` and `zone=`, so that the
# replicas of a partition are spread over both clouds.
provider "aws" {
  region = var.aws_region
}

provider "azurerm" {
  features {}
}

locals {
  aws_cidr   = "10.42.0.0/16"
  azure_cidr = "10.43.0.0/16"
}

module "aws" {
  source          = "../../modules/aws"
  name            = "events-aws"
  region          = var.aws_region
  cidr            = local.aws_cidr
  peer_cidrs      = [local.azure_cidr]
  node_count      = 3
  image_id        = var.image_id
  package_url     = var.package_url
  package_sha256  = var.package_sha256
  trusted_network = true
}

module "azure" {
  source          = "../../modules/azure"
  name            = "events-azure"
  region          = var.azure_region
  cidr            = local.azure_cidr
  peer_cidrs      = [local.aws_cidr]
  join            = module.aws.join
  node_count      = 2
  zones           = ["1", "2"]
  package_url     = var.package_url
  package_sha256  = var.package_sha256
  ssh_public_key  = var.ssh_public_key
  trusted_network = true
}
