provider "aws" {
  region = var.region
}

module "alluvium" {
  source          = "../../modules/aws"
  name            = "events"
  region          = var.region
  node_count      = var.node_count
  package_url     = var.package_url
  package_sha256  = var.package_sha256
  image_id        = var.image_id
  trusted_network = true
}
