locals {
  config = merge({
    name        = var.name
    data_dir    = "/var/lib/alluvium/data"
    listen      = "0.0.0.0:7400"
    peer_listen = "0.0.0.0:7401"
    http_listen = "0.0.0.0:7402"
    pg_listen   = "0.0.0.0:7432"
    advertise   = var.address
    seeds       = join(",", [for seed in var.seeds : "${seed}:7401"])
    locality    = join(",", [for tier in var.locality : "${tier.key}=${tier.value}"])
    log_format  = "json"
  }, var.extra_config)

  # A string of JSON is a string of TOML.
  toml = join("\n", concat(
    [for key, value in local.config : "${key} = ${jsonencode(value)}"],
    ["insecure = ${var.trusted_network}", ""],
  ))

  user_data = join("\n", ["#cloud-config", yamlencode({
    package_update = false
    write_files = [
      {
        path        = "/etc/alluvium/alluvium.toml"
        permissions = "0640"
        content     = local.toml
      },
      {
        path        = "/usr/local/sbin/alluvium-volume"
        permissions = "0755"
        content     = templatefile("${path.module}/volume.sh.tftpl", { devices = var.devices })
      },
      {
        path        = "/etc/systemd/system/alluvium-volume.service"
        permissions = "0644"
        content     = file("${path.module}/alluvium-volume.service")
      },
      {
        path        = "/etc/systemd/system/alluvium.service.d/volume.conf"
        permissions = "0644"
        content     = file("${path.module}/volume.conf")
      },
      {
        path        = "/usr/local/sbin/alluvium-install"
        permissions = "0755"
        content = templatefile("${path.module}/install.sh.tftpl", {
          url    = var.package_url
          sha256 = var.package_sha256
        })
      },
    ]
    runcmd = [["/usr/local/sbin/alluvium-install"]]
  })])
}
