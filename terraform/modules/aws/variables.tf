variable "name" {
  description = "Name of the cluster: what all resources and machines begin with."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}$", var.name))
    error_message = "Use 2 to 23 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Where the machines stand, such as eu-west-1."
  type        = string
}

variable "zones" {
  description = "Zones of the region, over which the nodes are spread: letters such as a."
  type        = list(string)
  default     = ["a", "b", "c"]
  validation {
    condition     = 0 < length(var.zones) && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name one to six different zones."
  }
}

variable "node_count" {
  description = "Nodes; three bear the loss of one, and may be in three zones."
  type        = number
  default     = 3
  validation {
    condition     = 1 <= var.node_count && var.node_count <= 200 && floor(var.node_count) == var.node_count
    error_message = "From 1 to 200 nodes."
  }
}

variable "machine_type" {
  description = "Type of each machine."
  type        = string
  default     = "m7g.large"
}

variable "image_id" {
  description = "Image of each machine; the newest Debian 12 for the type's processor if empty."
  type        = string
  default     = ""
}

variable "volume_gb" {
  description = "Size of each data volume."
  type        = number
  default     = 100
  validation {
    condition     = 1 <= var.volume_gb && var.volume_gb <= 16384
    error_message = "From 1 to 16384 GB."
  }
}

variable "cidr" {
  description = "Addresses of the network, a /16 that no other site has."
  type        = string
  default     = "10.42.0.0/16"
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "Give a network such as 10.42.0.0/16."
  }
}

variable "client_cidrs" {
  description = "Networks beside this one from which clients come."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0)) && cidr != "0.0.0.0/0"])
    error_message = "Give networks such as 10.0.0.0/16, not all addresses: there is no access control yet."
  }
}

variable "peer_cidrs" {
  description = "Networks of the other sites of the same cluster."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for cidr in var.peer_cidrs : can(cidrhost(cidr, 0)) && cidr != "0.0.0.0/0"])
    error_message = "Give networks such as 10.43.0.0/16, not all addresses."
  }
}

variable "join" {
  description = "The output `join` of the site that has begun the cluster; empty for that site itself."
  type        = list(string)
  default     = []
}

variable "trusted_network" {
  description = "Says that whoever reaches the ports is trusted: there is no TLS yet."
  type        = bool
  validation {
    condition     = var.trusted_network
    error_message = "Connections are not encrypted yet. If only trusted machines are in these networks, say trusted_network = true."
  }
}

variable "ssh_public_key" {
  description = "Key of the administrator; without one nobody logs in."
  type        = string
  default     = ""
}

variable "package_url" {
  description = "Where the Debian package is fetched from; empty when it is part of the image."
  type        = string
  default     = ""
}

variable "package_sha256" {
  description = "Checksum of the package."
  type        = string
  default     = ""
}

variable "extra_config" {
  description = "More keys of the nodes' configuration, such as { segment_age = \"1m\" }."
  type        = map(string)
  default     = {}
}

variable "kms_key_id" {
  description = "Key that encrypts the volumes; the account's own if empty."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of every resource, beside those of the module."
  type        = map(string)
  default     = {}
}
