mock_provider "aws" {
  mock_resource "aws_lb" {
    defaults = {
      arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/a/0123456789abcdef"
    }
  }
  mock_resource "aws_lb_target_group" {
    defaults = {
      arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/a/0123456789abcdef"
    }
  }
}

variables {
  name            = "events"
  region          = "eu-west-1"
  trusted_network = true
}

run "three_zones" {
  command = plan
  assert {
    condition     = length(distinct(aws_subnet.nodes[*].availability_zone)) == 3
    error_message = "One subnet in each of three zones."
  }
  assert {
    condition     = alltrue([for volume in aws_ebs_volume.data : volume.encrypted])
    error_message = "Data volumes are encrypted."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.nodes : !subnet.map_public_ip_on_launch])
    error_message = "No public addresses."
  }
  assert {
    condition     = aws_lb_target_group.clients["grpc"].health_check[0].path == "/readyz"
    error_message = "The balancer asks whether a node is ready."
  }
  assert {
    condition     = output.join == tolist(["10.42.0.16", "10.42.1.16", "10.42.2.16"])
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
    condition = alltrue([
      for index in range(5) :
      aws_ebs_volume.data[index].availability_zone == output.nodes[index].zone
    ])
    error_message = "A volume is in its node's zone."
  }
  assert {
    condition     = length(distinct(output.nodes[*].private_ip)) == 5 && length(output.join) == 3
    error_message = "Addresses differ, and the seeds are the same as those of three nodes."
  }
}

run "another_site" {
  command = plan
  variables {
    join       = ["10.43.0.16", "10.43.0.17"]
    peer_cidrs = ["10.43.0.0/16"]
  }
  assert {
    condition     = output.join == tolist(["10.43.0.16", "10.43.0.17"])
    error_message = "It joins the cluster of the first site."
  }
  assert {
    condition     = aws_security_group_rule.sites[0].from_port == 7401 && aws_security_group_rule.sites[0].to_port == 7401
    error_message = "Other sites reach the peer port alone."
  }
}

run "bad_name" {
  command = plan
  variables {
    name = "Bad_Name"
  }
  expect_failures = [var.name]
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
