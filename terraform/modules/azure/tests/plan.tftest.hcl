mock_provider "azurerm" {}

variables {
  name            = "events"
  region          = "westeurope"
  trusted_network = true
  ssh_public_key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample administrator"
}

run "three_zones" {
  command = plan
  assert {
    condition     = length(distinct(azurerm_linux_virtual_machine.node[*].zone)) == 3
    error_message = "Nodes are spread over three zones."
  }
  assert {
    condition = alltrue([
      for index, disk in azurerm_managed_disk.data :
      disk.zone == azurerm_linux_virtual_machine.node[index].zone
    ])
    error_message = "A volume is in its node's zone."
  }
  assert {
    condition     = azurerm_lb_probe.ready.request_path == "/readyz"
    error_message = "The balancer asks whether a node is ready."
  }
  assert {
    condition     = output.join == tolist(["10.43.0.16", "10.43.0.17", "10.43.0.18"])
    error_message = "The first nodes are the seeds."
  }
}

run "five_nodes" {
  command = plan
  variables {
    node_count = 5
  }
  assert {
    condition     = length(yamldecode(output.ansible_inventory).node.hosts) == 5
    error_message = "Every node is in the inventory."
  }
  assert {
    condition     = length(output.join) == 3
    error_message = "The seeds are the same as those of three nodes."
  }
}

run "another_site" {
  command = plan
  variables {
    join       = ["10.42.0.16", "10.42.1.16"]
    peer_cidrs = ["10.42.0.0/16"]
  }
  assert {
    condition     = output.join == tolist(["10.42.0.16", "10.42.1.16"])
    error_message = "It joins the cluster of the first site."
  }
  assert {
    condition     = contains(azurerm_network_security_rule.allowed["peers"].source_address_prefixes, "10.42.0.0/16")
    error_message = "Other sites reach the peer port."
  }
}

run "a_zone_that_is_none" {
  command = plan
  variables {
    zones = ["1", "4"]
  }
  expect_failures = [var.zones]
}

run "the_world_as_client" {
  command = plan
  variables {
    client_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_cidrs]
}

run "unsaid_trust" {
  command = plan
  variables {
    trusted_network = false
  }
  expect_failures = [var.trusted_network]
}
