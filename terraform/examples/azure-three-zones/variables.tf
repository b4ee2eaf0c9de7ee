variable "region" {
  description = "Region with at least three zones."
  type        = string
  default     = "westeurope"
}

variable "node_count" {
  description = "Nodes of the cluster."
  type        = number
  default     = 3
}

variable "package_url" {
  description = "Where the Debian package is fetched from."
  type        = string
}

variable "package_sha256" {
  description = "Checksum of the package."
  type        = string
}

variable "ssh_public_key" {
  description = "Key of the administrator."
  type        = string
}
