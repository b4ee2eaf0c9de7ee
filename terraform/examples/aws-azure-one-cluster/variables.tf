variable "aws_region" {
  description = "AWS region with at least three zones."
  type        = string
  default     = "eu-west-1"
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

variable "azure_region" {
  description = "Azure region with at least two zones."
  type        = string
  default     = "westeurope"
}

variable "ssh_public_key" {
  description = "Key of the administrator."
  type        = string
}
