variable "region" {
  description = "Region with at least three zones."
  type        = string
  default     = "eu-west-1"
}

variable "node_count" {
  description = "Nodes of the cluster."
  type        = number
  default     = 3
}

variable "image_id" {
  description = "Image of the machines; the newest Debian 12 if empty."
  type        = string
  default     = ""
}

variable "package_url" {
  description = "Where the Debian package is fetched from."
  type        = string
}

variable "package_sha256" {
  description = "Checksum of the package."
  type        = string
}
