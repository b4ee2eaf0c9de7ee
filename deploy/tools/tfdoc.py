#!/usr/bin/env python3
"""The inputs and outputs of Terraform modules, in their READMEs.

    tfdoc.py MODULE…            writes the tables between the marks of each README
    tfdoc.py --check MODULE…    fails where a table is stale, a variable has no type or is not used,
                                or a variable or output is not described

Needs the Python package python-hcl2.
"""

import pathlib
import re
import sys

import hcl2

BEGIN, END = "<!-- inputs and outputs: deploy/tools/tfdoc.py -->", "<!-- end -->"


def bare(value):
    """A value without the quotes that newer versions of the parser keep."""
    return value.strip('"') if isinstance(value, str) else value


def blocks(documents, kind):
    """Blocks of one kind by their names."""
    found = {}
    for document in documents:
        for block in document.get(kind, []):
            found.update({bare(name): inner for name, inner in block.items()})
    return found


def default_of(variable):
    if "default" not in variable:
        return ""
    value = variable["default"]
    if isinstance(value, str):
        return f'`"{bare(value)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return "`[" + ", ".join(f'"{bare(item)}"' for item in value) + "]`"
    return "`{}`" if value == {} else f"`{value}`"


def table(variables, outputs):
    lines = ["| input | what | type | default |", "|---|---|---|---|"]
    for name, variable in sorted(variables.items()):
        kind = bare(str(variable.get("type", ""))).removeprefix("${").removesuffix("}")
        kind = re.sub(r"\s+", " ", kind).replace("|", "\\|")
        what = bare(variable.get("description", "")).replace('\\"', '"')
        default = default_of(variable) or "required"
        lines.append(f"| `{name}` | {what} | `{kind}` | {default} |")
    lines += ["", "| output | what |", "|---|---|"]
    for name, output in sorted(outputs.items()):
        lines.append(f"| `{name}` | {bare(output.get('description', ''))} |")
    return "\n".join(lines)


def findings_of(variables, outputs, text):
    found = []
    for name, variable in variables.items():
        own = re.search(r'^variable "%s" \{.*?^\}' % name, text, re.S | re.M)
        elsewhere = text.replace(own.group(0), "") if own else text
        if not variable.get("description"):
            found.append(f"variable {name} is not described")
        if "type" not in variable:
            found.append(f"variable {name} has no type")
        if not re.search(r"\bvar\.%s\b" % name, elsewhere):
            found.append(f"variable {name} is not used")
    return found + [f"output {n} is not described" for n, o in outputs.items() if not o.get("description")]


def main():
    check = "--check" in sys.argv
    failed = False
    for folder in (pathlib.Path(argument) for argument in sys.argv[1:] if argument != "--check"):
        text = "".join(path.read_text() for path in sorted(folder.glob("*.tf")))
        documents = [hcl2.loads(path.read_text()) for path in sorted(folder.glob("*.tf"))]
        variables, outputs = blocks(documents, "variable"), blocks(documents, "output")
        found = findings_of(variables, outputs, text)
        readme = folder / "README.md"
        old = readme.read_text()
        if BEGIN not in old or END not in old:
            found.append(f"README.md lacks the marks {BEGIN} and {END}")
            new = old
        else:
            before, rest = old.split(BEGIN, 1)
            after = rest.split(END, 1)[1]
            new = f"{before}{BEGIN}\n\n{table(variables, outputs)}\n\n{END}{after}"
        if check and new != old:
            found.append("README.md is stale: run deploy/tools/tfdoc.py")
        elif not check:
            readme.write_text(new)
        for finding in found:
            print(f"{folder}: {finding}", file=sys.stderr)
        failed = failed or bool(found)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
