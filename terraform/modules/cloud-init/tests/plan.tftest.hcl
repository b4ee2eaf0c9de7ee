variables {
  name     = "node0"
  address  = "10.0.0.10"
  seeds    = ["10.0.0.10", "10.0.1.10", "10.0.2.10"]
  locality = [{ key = "cloud", value = "aws" }, { key = "zone", value = "a" }]
  devices  = ["/dev/sdf"]

  trusted_network = true
}

run "a_node" {
  command = plan
  assert {
    condition     = startswith(output.user_data, "#cloud-config\n")
    error_message = "cloud-init knows its file by the first line."
  }
  assert {
    condition = strcontains(
      yamldecode(output.user_data).write_files[0].content,
      "seeds = \"10.0.0.10:7401,10.0.1.10:7401,10.0.2.10:7401\"\n",
    )
    error_message = "The seeds are peer addresses."
  }
  assert {
    condition = strcontains(
      yamldecode(output.user_data).write_files[0].content, "locality = \"cloud=aws,zone=a\"\n",
    )
    error_message = "The widest tier comes first."
  }
}

run "no_seeds" {
  command = plan
  variables { seeds = [] }
  expect_failures = [var.seeds]
}

run "plain_http" {
  command = plan
  variables { package_url = "http://example.org/alluvium.deb" }
  expect_failures = [var.package_url]
}

run "half_a_checksum" {
  command = plan
  variables { package_sha256 = "abc" }
  expect_failures = [var.package_sha256]
}
