#!/usr/bin/env python3
"""A schema-only stand-in for a Terraform provider, for offline validate/plan/test.

    stub_provider.py SCHEMA.json PORT
Serves protocol 6 in the clear on 127.0.0.1:PORT and prints the TF_REATTACH_PROVIDERS
entry. Computed attributes are unknown at plan time and get made-up values at apply, so
plan, apply, destroy and outputs can be exercised; nothing is created anywhere.
Needs the Python packages `tf` (its generated tfplugin6 messages), grpcio and msgpack.
"""
import itertools
import json
import os
import sys
import zlib
from concurrent import futures

import grpc
import msgpack
from tf.gen import grpc_controller_pb2_grpc, tfplugin_pb2 as pb, tfplugin_pb2_grpc

UNKNOWN = msgpack.ExtType(0, b"\x00")
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
counter = itertools.count(4)


def to_block(b):
    return pb.Schema.Block(
        attributes=[pb.Schema.Attribute(
            name=n, type=json.dumps(a["type"]).encode(), required=a["required"],
            optional=a["optional"], computed=a["computed"])
            for n, a in sorted(b["attributes"].items())],
        block_types=[pb.Schema.NestedBlock(
            type_name=n, nesting=NESTING[k["nesting"]], min_items=k["min"], max_items=k["max"],
            block=to_block(k["block"])) for n, k in sorted(b["blocks"].items())])


def to_schema(b):
    return pb.Schema(version=0, block=to_block(b))


def load(dv):
    if dv.msgpack:
        return msgpack.unpackb(dv.msgpack, raw=False, strict_map_key=False)
    return json.loads(dv.json) if dv.json else None


def dump(v):
    return pb.DynamicValue(msgpack=msgpack.packb(v, use_bin_type=True))


def walk(block, value, fill):
    """Replace null computed attributes by fill(name, type), in nested blocks too."""
    if value is None or isinstance(value, msgpack.ExtType):
        return value
    out = dict(value)
    for n, a in block["attributes"].items():
        if a["computed"] and out.get(n) is None:
            out[n] = fill(n, a["type"])
    for n, k in block["blocks"].items():
        v = out.get(n)
        if isinstance(v, list):
            out[n] = [walk(k["block"], x, fill) for x in v]
        elif isinstance(v, dict):
            out[n] = walk(k["block"], v, fill)
    return out


def resolve(value, ty, name, fake):
    """Replace unknowns by made-up values of the right type."""
    if isinstance(value, msgpack.ExtType):
        return fake(name, ty)
    return value


def realise(block, value, fake):
    if value is None:
        return None
    out = dict(value)
    for n, a in block["attributes"].items():
        out[n] = resolve(out.get(n), a["type"], n, fake)
    for n, k in block["blocks"].items():
        v = out.get(n)
        if isinstance(v, list):
            out[n] = [realise(k["block"], x, fake) for x in v]
        elif isinstance(v, dict):
            out[n] = realise(k["block"], v, fake)
    return out


class Stub(tfplugin_pb2_grpc.ProviderServicer, grpc_controller_pb2_grpc.GRPCControllerServicer):
    def __init__(self, schema):
        self.s = schema
        self.s["provider"]["attributes"].pop("alias", None)

    def fake(self, kind, known, num=None):
        num = num or next(counter)

        def value(name, ty):
            if ty == "string" or ty == "dynamic":
                if name == "id":
                    known_name = known.get("name")
                    return f"/stub/{kind}/{known_name if isinstance(known_name, str) else num}"
                if "ip_address" in name or name in ("private_ip", "public_ip"):
                    return f"10.0.0.{num}"
                return f"stub-{name}-{num}"
            if ty == "number":
                return 1
            if ty == "bool":
                return False
            if ty[0] in ("list", "set"):
                return [value(name, ty[1])] if ty[1] == "string" else []
            if ty[0] == "map":
                return {}
            return {k: value(k, t) for k, t in ty[1].items()}
        return value

    def GetMetadata(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "use GetProviderSchema")

    def GetProviderSchema(self, request, context):
        return pb.GetProviderSchema.Response(
            provider=to_schema(self.s["provider"]),
            provider_meta=None,
            resource_schemas={n: to_schema(b) for n, b in self.s["resources"].items()},
            data_source_schemas={n: to_schema(b) for n, b in self.s["data"].items()})

    def ValidateProviderConfig(self, r, c):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, r, c):
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, r, c):
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, r, c):
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, r, c):
        return pb.UpgradeResourceState.Response(upgraded_state=dump(json.loads(r.raw_state.json)))

    def ReadResource(self, r, c):
        return pb.ReadResource.Response(new_state=r.current_state)

    def PlanResourceChange(self, r, c):
        want = load(r.proposed_new_state)
        if want is None:
            return pb.PlanResourceChange.Response(planned_state=r.proposed_new_state)
        want = walk(self.s["resources"][r.type_name], want, lambda n, t: UNKNOWN)
        return pb.PlanResourceChange.Response(planned_state=dump(want))

    def ApplyResourceChange(self, r, c):
        want = load(r.planned_state)
        if want is not None:
            want = realise(self.s["resources"][r.type_name], want, self.fake(r.type_name, want))
        return pb.ApplyResourceChange.Response(new_state=dump(want))

    def ReadDataSource(self, r, c):
        cfg = load(r.config)
        block = self.s["data"][r.type_name]
        return pb.ReadDataSource.Response(
            state=dump(walk(block, cfg, self.fake(
                r.type_name, cfg, 4 + zlib.crc32(r.type_name.encode() + r.config.msgpack) % 200))))

    def GetFunctions(self, r, c):
        return pb.GetFunctions.Response()

    def StopProvider(self, r, c):
        return pb.StopProvider.Response()


def main():
    schema, port = json.load(open(sys.argv[1])), int(sys.argv[2])
    opts = [("grpc.max_send_message_length", 256 << 20), ("grpc.max_receive_message_length", 256 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(32), options=opts)
    stub = Stub(schema)
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(stub, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(json.dumps({"registry.terraform.io/" + schema["source"]: {
        "Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True,
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"}}}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
