variable "name" {
  description = "What people call the node."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,62}$", var.name))
    error_message = "Use lower-case letters, digits and dashes."
  }
}

variable "address" {
  description = "Host by which clients and the other nodes reach the node."
  type        = string
}

variable "seeds" {
  description = "Hosts that a new node asks for the cluster, without ports; the same for all nodes."
  type        = list(string)
  validation {
    condition     = 0 < length(var.seeds)
    error_message = "A node without seeds would begin a cluster of its own."
  }
}

variable "locality" {
  description = "Where the node stands, as tiers of key and value, the widest first."
  type        = list(object({ key = string, value = string }))
  default     = []
}

variable "devices" {
  description = "Paths under which the data volume may appear; the first that does is used."
  type        = list(string)
  validation {
    condition     = 0 < length(var.devices)
    error_message = "Name at least one path of the data volume."
  }
}

variable "package_url" {
  description = "Where the Debian package is fetched from; empty when it is part of the image."
  type        = string
  default     = ""
  validation {
    condition     = var.package_url == "" || can(regex("^(https|file)://", var.package_url))
    error_message = "Only https:// is fetched from (or file:// for what the image holds)."
  }
}

variable "package_sha256" {
  description = "Checksum of the package: another one is not installed."
  type        = string
  default     = ""
  validation {
    condition     = var.package_sha256 == "" || can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "Give the 64 hexadecimal digits of sha256sum."
  }
}

variable "extra_config" {
  description = "More keys of the node's configuration, such as { segment_age = \"1m\" }."
  type        = map(string)
  default     = {}
}

variable "trusted_network" {
  description = "Says that whoever reaches the ports is trusted: there is no TLS yet."
  type        = bool
}
