#!/usr/bin/env bash
# The user data that Terraform renders, booted: a real Debian in an emulated machine installs the
# package, formats the data volume, and starts a node on it; booted again, the node goes on. Takes
# minutes, because nothing of it is the machine's own.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

program=$(program) || skip_all 'vm: there is no program yet (cargo build)'
for tool in qemu-system-x86_64 debootstrap mcopy mkfs.vfat mkfs.ext4 terraform; do
    has "$tool" || skip_all "vm: $tool is not here"
done
work=$(mktemp -d)
mounted=()
cleanup() {
    for folder in "${mounted[@]}"; do umount "$folder" 2> /dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
image=$cache/vm

if [ ! -f "$image/base.img" ]; then
    say 'an image of Debian with cloud-init, once'
    tree=$work/tree
    mkdir -p "$image"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,openssh-server,\
python3-minimal,iproute2,procps,ca-certificates,curl,adduser,libstdc++6 \
        bookworm "$tree" > "$image/debootstrap.log" 2>&1
    cp /etc/resolv.conf /etc/hosts "$tree/etc/"
    mount -t proc proc "$tree/proc" && mounted+=("$tree/proc")
    mount --bind /dev "$tree/dev" && mounted+=("$tree/dev")
    chroot "$tree" sh -c 'export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends linux-image-cloud-amd64 cloud-init \
            netplan.io e2fsprogs' > "$image/install.log" 2>&1
    umount "$tree/proc" "$tree/dev"
    mounted=()
    cp "$tree"/boot/vmlinuz-* "$image/vmlinuz"
    cp "$tree"/boot/initrd.img-* "$image/initrd"
    echo 'datasource_list: [NoCloud]' > "$tree/etc/cloud/cloud.cfg.d/99.cfg"
    : > "$tree/etc/machine-id"
    truncate --size 3G "$image/base.img.new"
    mkfs.ext4 -q -d "$tree" "$image/base.img.new"
    mv "$image/base.img.new" "$image/base.img"
    rm -rf "$tree"
fi

say 'user data, as the module renders it'
cp -r "$root/terraform/modules/cloud-init" "$work/module"
cat > "$work/module/terraform.tfvars.json" <<'JSON'
{
  "name": "events-0",
  "address": "127.0.0.1",
  "seeds": ["127.0.0.1"],
  "devices": ["/dev/sdf", "/dev/vdb"],
  "locality": [{ "key": "cloud", "value": "test" }, { "key": "zone", "value": "a" }],
  "package_url": "file:///mnt/package/alluvium.deb",
  "trusted_network": true,
  "extra_config": { "memory_bytes": "64MB" }
}
JSON
package=$(DEB_COMPRESSION=gzip "$root/deploy/debian/build.sh" "$program" "$work/package")
sum=$(sha256sum "$package" | cut -d' ' -f1)
cd "$work/module"
export CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
printf 'provider_installation {\n}\n' > "$work/none.tfrc"
export TF_CLI_CONFIG_FILE=$work/none.tfrc
terraform init -no-color > /dev/null
terraform apply -no-color -auto-approve -var "package_sha256=$sum" > /dev/null
terraform output -raw user_data > "$work/user-data"

# Beside what the module says, the test's own words: where the package is, what to report.
python3 - "$work/user-data" <<'PYTHON'
import sys

# The text is JSON-like YAML of Terraform; a second part in the MIME form is what cloud-init merges.
text = open(sys.argv[1], encoding="utf-8").read()
report = """#!/bin/sh
exec > /dev/ttyS0 2>&1
for _ in $(seq 600); do
    curl -fs http://127.0.0.1:7402/readyz > /dev/null && break
    sleep 1
done
echo "REPORT volume $(findmnt -n -o SOURCE,FSTYPE /var/lib/alluvium)"
echo "REPORT unit $(systemctl is-active alluvium) $(systemctl is-enabled alluvium)"
echo "REPORT owner $(stat -c %U:%a /var/lib/alluvium)"
alluvium sql -e 'CREATE STREAM boots (n BIGINT NOT NULL)' || true
alluvium sql -e 'INSERT INTO boots VALUES (1)'
echo "REPORT boots $(alluvium sql --format csv -e 'SELECT count(*) FROM boots' | tail -1)"
echo "REPORT node $(alluvium sql --format csv -e 'SELECT name, locality FROM system.nodes' | tail -1)"
poweroff
"""
mount = """#cloud-boothook
#!/bin/sh
mkdir -p /mnt/package && mount -o ro LABEL=PACKAGE /mnt/package
"""
parts = [("cloud-config", text), ("cloud-boothook", mount), ("x-shellscript-per-boot", report)]
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write('Content-Type: multipart/mixed; boundary="part"\nMIME-Version: 1.0\n\n')
    for kind, part in parts:
        file.write(f"--part\nContent-Type: text/{kind}\n\n{part}\n")
    file.write("--part--\n")
PYTHON
cp --sparse=always "$image/base.img" "$work/disk.img"
truncate --size 512M "$work/data.img"
truncate --size 4M "$work/seed.img"
mkfs.vfat -n CIDATA "$work/seed.img" > /dev/null
printf 'instance-id: one\nlocal-hostname: events-0\n' > "$work/meta-data"
mcopy -i "$work/seed.img" "$work/user-data" "$work/meta-data" ::
truncate --size 128M "$work/package.img"
mkfs.vfat -n PACKAGE "$work/package.img" > /dev/null
mcopy -i "$work/package.img" "$package" ::alluvium.deb
pass "$(wc -c < "$work/user-data") bytes"

boot() {
    timeout 1200 qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -m 1536 -smp 1 \
        -nographic -no-reboot -nic none \
        -kernel "$image/vmlinuz" -initrd "$image/initrd" \
        -append 'root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet' \
        -drive "file=$work/disk.img,if=virtio,format=raw" \
        -drive "file=$work/data.img,if=virtio,format=raw" \
        -drive "file=$work/seed.img,if=virtio,format=raw,readonly=on" \
        -drive "file=$work/package.img,if=virtio,format=raw,readonly=on" \
        < /dev/null > "$work/console.log" 2>&1 || true
    tr -d '\r' < "$work/console.log" | grep --text -o 'REPORT .*' > "$work/report" \
        || { tail -40 "$work/console.log"; fail 'the machine reported nothing'; }
    cat "$work/report"
}
reports() { grep --quiet --line-regexp "REPORT $1" "$work/report" || fail "not reported: $1"; }

say 'first boot'
boot
reports 'volume /dev/vdb ext4'
reports 'unit active enabled'
reports 'owner alluvium:700'
reports 'boots 1'
reports 'node events-0,"*cloud=test,zone=a"*'
pass 'the volume is formatted and mounted, the node runs on it'

say 'second boot'
boot
reports 'volume /dev/vdb ext4'
reports 'unit active enabled'
reports 'boots 2'
pass 'the volume is mounted as it was, its events are there'
finish
