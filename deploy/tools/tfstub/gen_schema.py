#!/usr/bin/env python3
"""Rebuilds the schema of a Terraform provider from the Python package of its CDK bindings.

    gen_schema.py WHEEL OUT.json [resource_or_data_name ...]
Names are Terraform type names (azurerm_subnet, data.azurerm_subscription); none = all.
The wheel (cdktn-provider-* or cdktf-cdktf-provider-*) carries _jsii/*.tgz; the source map
of its lib/<kebab>/index.js holds the TypeScript source, which keeps for every attribute the
comment `// name - computed: .., optional: .., required: ..` and the HCL metadata
(isBlock, type, storageClassType): enough to rebuild the schema. Not in the
bindings: validation functions, ConflictsWith/ExactlyOneOf, ForceNew, sensitive.
"""
import base64
import io
import json
import re
import sys
import tarfile
import zipfile

ENTRY = re.compile(
    r"^\s+(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n"
    r"\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\",", re.M)
FLAG = re.compile(r"^\s+// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)$", re.M)
PRIM = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}


def simple(kind, storage):
    for suffix, wrap in (("List", None), ("Map", "map")):
        if storage.endswith(suffix):
            inner = storage[: -len(suffix)]
            return [wrap or kind, simple("list" if inner.endswith("List") else "simple", inner)]
    ty = PRIM.get(storage, "string")
    return [kind, ty] if kind in ("list", "set", "map") else ty


class Module:
    """One lib/<kebab>/index.js."""

    def __init__(self, js):
        b64 = re.search(r"^//# sourceMappingURL=data:application/json;base64,(\S+)", js, re.M).group(1)
        self.js = json.loads(base64.b64decode(b64))["sourcesContent"][0]
        self.classes = {}
        for m in re.finditer(r"^export class (\w+) extends [\w.]+ \{$", self.js, re.M):
            end = self.js.index("\n}\n", m.end())
            self.classes[m.group(1)] = self.js[m.end():end + 1]
        self.fns = {}
        for m in re.finditer(r"^export function (\w+)ToHclTerraform\(.*\{$", self.js, re.M):
            self.fns[m.group(1)] = self.js[m.end():self.js.index("\n}\n", m.end())]

    def flags(self, cls):
        body, out = self.classes.get(cls, ""), {}
        marks = list(FLAG.finditer(body))
        for i, m in enumerate(marks):
            end = marks[i + 1].start() if i + 1 < len(marks) else len(body)
            out[m.group(1)] = (m.group(2) == "true", m.group(3) == "true", m.group(4) == "true",
                               body[m.end():end])
        return out

    def entries(self, text):
        return {m.group(1): m.groups()[1:] for m in ENTRY.finditer(text)}

    def getter_type(self, name, code):
        m = re.search(r"new (\w+?)(OutputReference|List|MapList|Map)\(this, \"%s\"(?:, (true|false))?" % name, code)
        if m:
            obj = self.object_type(m.group(1) + "OutputReference")
            if m.group(2) == "OutputReference":
                return obj
            if m.group(2) == "Map":
                return ["map", obj]
            return ["set" if m.group(3) == "true" else "list", obj]
        m = re.search(r"new cdkt\w+\.(String|Number|Boolean)Map\(this", code)
        if m:
            return ["map", PRIM[m.group(1).lower()]]
        m = re.search(r"(Fn\.tolist\(.*)?get(\w*?)(List|Map|MapList)?Attribute\(", code)
        if not m:
            return "string"
        elem = {"String": "string", "Number": "number", "Boolean": "bool", "Any": "string",
                "": "string"}.get(m.group(2), "string")
        kind = m.group(3)
        if kind == "Map":
            return ["map", elem]
        if kind:
            return ["set" if m.group(1) else "list", elem]
        return elem

    def object_type(self, cls):
        fields = {}
        fn = cls[: -len("OutputReference")]
        ents = self.entries(self.fns.get(fn[0].lower() + fn[1:], ""))
        for name, (_, _, _, code) in self.flags(cls).items():
            fields[name] = self.entry_type(ents[name]) if name in ents else self.getter_type(name, code)
        return ["object", fields]

    def entry_type(self, ent):
        value, _block, kind, storage = ent
        m = re.search(r"(\w+)ToHclTerraform", value.replace("cdktn.", "").replace("cdktf.", ""))
        fn = m.group(1) if m else None
        if fn in self.fns:
            obj = self.object_type(fn[0].upper() + fn[1:] + "OutputReference")
            return obj if kind == "struct" else [kind, obj]
        return simple(kind, storage)

    def block(self, cls, ents):
        attrs, blocks = {}, {}
        flags = self.flags(cls)
        if not flags:  # provider config: flags sit on plain getters
            flags = {n: (False, True, False, "") for n in ents}
        for name, (comp, opt, req, code) in flags.items():
            ent = ents.get(name)
            if ent is None:
                attrs[name] = {"type": self.getter_type(name, code), "computed": comp,
                               "optional": opt, "required": req}
                continue
            value, is_block, kind, storage = ent
            m = re.search(r"(\w+)ToHclTerraform", value.replace("cdktn.", "").replace("cdktf.", ""))
            fn = m.group(1) if m else None
            nested = fn in self.fns
            as_block = is_block == "true" and nested and not comp and (
                "listMapperHcl" not in value or re.search(r"ToHclTerraform, true\)", value))
            if as_block:
                sub = self.block(fn[0].upper() + fn[1:] + "OutputReference", self.entries(self.fns[fn]))
                if kind == "struct":
                    nesting, lo, hi = "single", 0, 0
                elif "listMapperHcl" in value:
                    nesting, lo, hi = kind, (1 if req else 0), 0
                else:
                    nesting, lo, hi = kind, (1 if req else 0), 1
                blocks[name] = {"nesting": nesting, "min": lo, "max": hi, "block": sub}
            else:
                attrs[name] = {"type": self.entry_type(ent), "computed": comp,
                               "optional": opt, "required": req}
        return {"attributes": attrs, "blocks": blocks}

    def root(self):
        for cls, body in self.classes.items():
            m = re.search(r'tfResourceType = "(\w+)"', body)
            if m:
                data = "TerraformDataSource" in re.search(r"class %s extends ([\w.]+)" % cls, self.js).group(1)
                hcl = body[body.index("synthesizeHclAttributes"):] if "synthesizeHclAttributes" in body else ""
                return m.group(1), data, self.block(cls, self.entries(hcl))
        return None, False, None


def main():
    wheel, out, wanted = sys.argv[1], sys.argv[2], set(sys.argv[3:])
    z = zipfile.ZipFile(wheel)
    tgz = next(n for n in z.namelist() if n.endswith(".tgz"))
    meta = next(n for n in z.namelist() if n.endswith("METADATA"))
    ver = re.search(r"provider version ([\d.]+)", z.read(meta).decode()).group(1)
    schema = {"source": re.search(r"hashicorp/\w+", z.read(meta).decode()).group(0), "version": ver,
              "provider": {}, "resources": {}, "data": {}}
    short = schema["source"].split("/")[1]
    kebabs = {w.replace("data.%s_" % short, "data-%s-" % short).replace(short + "_", "", 1 if not w.startswith("data.") else 0).replace("_", "-") for w in wanted} | {"provider"}
    with tarfile.open(fileobj=io.BytesIO(z.read(tgz))) as tar:
        for member in tar:
            m = re.fullmatch(r"package/lib/([\w-]+)/index\.js", member.name)
            if not m or (wanted and m.group(1) not in kebabs):
                continue
            name, data, block = Module(tar.extractfile(member).read().decode()).root()
            if m.group(1) == "provider":
                schema["provider"] = block
            elif name:
                schema["data" if data else "resources"][name] = block
    with open(out, "w") as f:
        json.dump(schema, f, sort_keys=True, separators=(",", ":"))
    print(f"{schema['source']} {ver}: {len(schema['resources'])} resources, {len(schema['data'])} data sources -> {out}")


if __name__ == "__main__":
    main()
