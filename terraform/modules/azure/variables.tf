variable "name" {
  description = "Name of the cluster: what all resources and machines begin with."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}$", var.name))
    error_message = "Use 2 to 23 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Where the machines stand, such as westeurope."
  type        = string
}

variable "zones" {
  description = "Zones of the region, over which the nodes are spread: numbers such as 1."
  type        = list(string)
  default     = ["1", "2", "3"]
  validation {
    condition     = 0 < length(var.zones) && length(setsubtract(var.zones, ["1", "2", "3"])) == 0 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name one to three different zones, of 1, 2 and 3."
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
  default     = "Standard_D4s_v5"
}

variable "image_id" {
  description = "Image of each machine; the newest Debian 12 if empty, for an x86 processor."
  type        = string
  default     = ""
}

variable "volume_gb" {
  description = "Size of each data volume."
  type        = number
  default     = 100
  validation {
    condition     = 1 <= var.volume_gb && var.volume_gb <= 32767
    error_message = "From 1 to 32767 GB."
  }
}

variable "cidr" {
  description = "Addresses of the network, a /16 that no other site has."
  type        = string
  default     = "10.43.0.0/16"
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "Give a network such as 10.43.0.0/16."
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
    error_message = "Give networks such as 10.42.0.0/16, not all addresses."
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
  description = "Key of the administrator: Azure makes no machine without one."
  type        = string
  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa) ", var.ssh_public_key))
    error_message = "Give the line of a file such as id_ed25519.pub."
  }
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
  description = "Disk encryption set for the volumes; the platform's own key if empty."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of every resource, beside those of the module."
  type        = map(string)
  default     = {}
}
