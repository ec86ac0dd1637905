"""The AWS Lambda API as boto3 and the aws command line use it. Arguments: the endpoint, and id and secret of an access key of another namespace.

Every answer is held against botocore's own model of the service: status, members, types; and every refusal, its name and its form.
"""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, OTHER_ID, OTHER_SECRET = sys.argv[1:4]
ROLE = "arn:aws:iam::000000000000:role/any"
CODE = """
exports.handler = async (event, context) => {
  if (event.fail) throw new TypeError('no more biscuits');
  if (event.say) console.log('said ' + event.say);
  return { event, version: context.functionVersion, client: context.clientContext ?? null, greeting: process.env.GREETING ?? null };
};
exports.stream = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('first ');
  if (event.fail) throw new TypeError('broken off');
  stream.write('second');
  stream.end();
});
"""
# What the service answers and its model does not name.
COMMON = {
    "AccessDeniedException": 403,
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
}
seen = set()


def package(code=CODE, name="index.js"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as files:
        files.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), code)
    return out.getvalue()


def fits(value, shape, where):
    """Whether a member of an answer is what the model says."""
    kinds = {
        "string": str,
        "integer": int,
        "long": int,
        "boolean": bool,
        "double": (int, float),
        "float": (int, float),
        "timestamp": (int, float, str),
        "blob": str,
        "list": list,
        "map": dict,
        "structure": dict,
    }
    kind = shape.type_name
    assert isinstance(value, kinds[kind]), f"{where}: {value!r} is no {kind}"
    if kind == "structure":
        for name in shape.required_members:
            assert name in value, f"{where}: {name} is missing"
        for name, member in value.items():
            assert name in shape.members, f"{where}: {name} is not in the model"
            fits(member, shape.members[name], f"{where}.{name}")
    elif kind == "list":
        for at, member in enumerate(value):
            fits(member, shape.member, f"{where}[{at}]")
    elif kind == "map":
        for name, member in value.items():
            fits(name, shape.key, where)
            fits(member, shape.value, f"{where}.{name}")
    elif kind == "string" and shape.enum and "untime" not in where:
        # Runtimes of this host may have other names.
        assert value in shape.enum, f"{where}: {value!r} is none of {shape.enum}"


def check(http_response, parsed, model, **_):
    seen.add(model.name)
    status, headers = http_response.status_code, http_response.headers
    assert headers.get("x-amzn-requestid"), model.name
    if status >= 300:
        code = parsed["Error"]["Code"]
        shapes = {shape.name: shape for shape in model.error_shapes}
        assert code in shapes or code in COMMON, f"{model.name}: {code} is not in the model"
        assert headers["x-amzn-errortype"] == code
        body = json.loads(http_response.content)
        if code in shapes:
            expected = shapes[code].metadata["error"]["httpStatusCode"]
            for name in body:
                assert name in shapes[code].members, f"{model.name} {code}: {name}"
        else:
            expected = COMMON[code]
        assert status == expected, f"{model.name} {code}: {status}"
        assert parsed["Error"]["Message"], f"{model.name} {code} says nothing"
        return
    output = model.output_shape
    bound = output is not None and any(
        shape.serialization.get("location") == "statusCode" for shape in output.members.values()
    )
    assert bound or status == model.http["responseCode"], f"{model.name}: {status}"
    if output is None or status == 204:
        return
    if output.serialization.get("payload") or model.has_streaming_output or model.has_event_stream_output:
        return
    body = json.loads(http_response.content)
    inside = {n for n, s in output.members.items() if "location" not in s.serialization}
    for name, value in body.items():
        assert name in inside, f"{model.name}: {name} is not in the model"
        fits(value, output.members[name], f"{model.name}.{name}")
    for name in output.required_members:
        assert name in body, f"{model.name}: {name} is missing"


def client(key=None, secret=None, region="eu-west-1"):
    made = boto3.client(
        "lambda",
        endpoint_url=ENDPOINT,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )
    made.meta.events.register("after-call.lambda", check)
    return made


def refused(code, call, **arguments):
    try:
        answer = call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} was expected: {answer}")


aws = client()


def create(name, **more):
    wanted = {
        "FunctionName": name,
        "Runtime": "nodejs20.x",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": package()},
        "Timeout": 20,
        "MemorySize": 256,
    }
    return aws.create_function(**{**wanted, **more})


def call(name, payload=b"{}", **more):
    answer = aws.invoke(FunctionName=name, Payload=payload, **more)
    return answer, answer["Payload"].read()


def functions():
    made = create("f", Description="one", Environment={"Variables": {"GREETING": "hi"}}, Tags={"team": "a"})
    arn = "arn:aws:lambda:eu-west-1:000000000000:function:f"
    assert made["FunctionArn"] == arn and made["Version"] == "$LATEST", made
    digest = base64.b64encode(hashlib.sha256(package()).digest()).decode()
    assert (made["CodeSha256"], made["CodeSize"]) == (digest, len(package())), made
    assert (made["Timeout"], made["MemorySize"], made["Role"]) == (20, 256, ROLE), made
    aws.get_waiter("function_active_v2").wait(FunctionName="f")
    refused("ResourceConflictException", create, name="f")
    for bad in [
        {"Runtime": "cobol"},
        {"Timeout": 901},
        {"MemorySize": 100_000},
        {"Role": "nobody"},
        {"name": "a b"},
        {"Code": {"ZipFile": b"no zip"}},
        {"Code": {"S3Bucket": "bucket", "S3Key": "key"}},
        {"PackageType": "Image", "Code": {"ImageUri": "x"}},
        {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}},
        {"Environment": {"Variables": {"AWS_REGION": "x"}}},
    ]:
        refused("InvalidParameterValueException", create, **{"name": "g", **bad})

    got = aws.get_function(FunctionName=arn)
    assert got["Tags"] == {"team": "a"}, got
    with urllib.request.urlopen(got["Code"]["Location"]) as zipped:
        assert zipped.read() == package()
    try:
        urllib.request.urlopen(got["Code"]["Location"].replace("/f/", "/g/"))
        raise AssertionError("a URL that was changed leads somewhere")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error
    for name in ["f", "f:$LATEST", "000000000000:function:f", arn, arn + ":$LATEST"]:
        assert aws.get_function_configuration(FunctionName=name)["Description"] == "one"
    assert aws.get_function_configuration(FunctionName="f", Qualifier="$LATEST")["FunctionArn"].endswith(":f:$LATEST")
    refused("ResourceNotFoundException", aws.get_function, FunctionName="nobody")
    refused("ResourceNotFoundException", aws.get_function, FunctionName="f:7")
    refused("InvalidParameterValueException", aws.get_function, FunctionName="f:7", Qualifier="8")
    refused("AccessDeniedException", aws.get_function, FunctionName=arn.replace("0" * 12, "1" * 12))


def changes():
    before = aws.get_function_configuration(FunctionName="f")
    changed = aws.update_function_configuration(
        FunctionName="f",
        Description="two",
        Timeout=7,
        Environment={"Variables": {"OTHER": "x"}},
        RevisionId=before["RevisionId"],
    )
    assert changed["Environment"]["Variables"] == {"OTHER": "x"}, changed
    assert changed["Description"] == "two" and changed["MemorySize"] == 256, changed
    assert changed["RevisionId"] != before["RevisionId"]
    for stale, more in [
        (aws.update_function_configuration, {"Timeout": 8}),
        (aws.update_function_code, {"ZipFile": package()}),
        (aws.publish_version, {}),
    ]:
        refused("PreconditionFailedException", stale, FunctionName="f", RevisionId=before["RevisionId"], **more)
    aws.update_function_configuration(FunctionName="f", Environment={"Variables": {"GREETING": "hi"}})
    aws.get_waiter("function_updated_v2").wait(FunctionName="f")
    other = package(CODE + "// changed")
    dry = aws.update_function_code(FunctionName="f", ZipFile=other, DryRun=True)
    assert dry["CodeSha256"] != before["CodeSha256"]
    assert aws.get_function_configuration(FunctionName="f")["CodeSha256"] == before["CodeSha256"]
    updated = aws.update_function_code(FunctionName="f", ZipFile=other)
    assert updated["CodeSha256"] == dry["CodeSha256"]
    refused("ResourceNotFoundException", aws.update_function_code, FunctionName="nobody", ZipFile=other)
    refused("ResourceNotFoundException", aws.update_function_configuration, FunctionName="nobody", Timeout=1)


def calls():
    context = base64.b64encode(b'{"custom":{"a":"b"}}').decode()
    answer, payload = call("f", b'{"say":"hello"}', LogType="Tail", ClientContext=context)
    said = json.loads(payload)
    assert said["event"] == {"say": "hello"} and said["greeting"] == "hi", said
    assert said["client"]["custom"] == {"a": "b"}, said
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST", answer
    assert "FunctionError" not in answer
    log = base64.b64decode(answer["LogResult"]).decode()
    request = answer["ResponseMetadata"]["RequestId"]
    assert log.startswith(f"START RequestId: {request} Version: $LATEST\n") and "said hello" in log, log
    assert "Memory Size: 256 MB" in log, log

    answer, payload = call("f", b'{"fail":true}')
    assert answer["FunctionError"] == "Unhandled", answer
    assert json.loads(payload)["errorMessage"] == "no more biscuits"
    answer, payload = call("f", InvocationType="Event")
    assert (answer["StatusCode"], payload) == (202, b"")
    answer, payload = call("f", InvocationType="DryRun")
    assert (answer["StatusCode"], payload) == (204, b"")
    refused("ResourceNotFoundException", aws.invoke, FunctionName="nobody")
    refused("ResourceNotFoundException", aws.invoke, FunctionName="f:nobody")
    refused("RequestTooLargeException", aws.invoke, FunctionName="f", Payload=b'"' + b"x" * (6 << 20) + b'"')
    refused("RequestTooLargeException", aws.invoke, FunctionName="f", Payload=b'"' + b"x" * (6 << 20) + b'"', InvocationType="Event")
    refused("InvalidParameterValueException", aws.invoke, FunctionName="f", InvocationType="Later")
    refused("InvalidParameterValueException", aws.invoke, FunctionName="f", ClientContext="{}")


def streams():
    create("s", Handler="index.stream")

    def read(**more):
        answer = aws.invoke_with_response_stream(FunctionName="s", **more)
        assert answer["ExecutedVersion"] == "$LATEST", answer
        events = list(answer["EventStream"])
        chunks = b"".join(e["PayloadChunk"]["Payload"] for e in events if "PayloadChunk" in e)
        ends = [e["InvokeComplete"] for e in events if "InvokeComplete" in e]
        assert ends == [events[-1].get("InvokeComplete")], events
        return chunks, ends[0]

    assert read() == (b"first second", {})
    chunks, end = read(Payload=b'{"fail":true}')
    assert chunks == b"first " and end["ErrorCode"] == "Unhandled" and "broken off" in end["ErrorDetails"], end
    # One that answers in one piece.
    answer = aws.invoke_with_response_stream(FunctionName="f", Payload=b'{"n":1}')
    events = list(answer["EventStream"])
    assert json.loads(events[0]["PayloadChunk"]["Payload"])["event"] == {"n": 1}, events
    refused("ResourceNotFoundException", aws.invoke_with_response_stream, FunctionName="nobody")


def versions():
    first = aws.publish_version(FunctionName="f", Description="the first")
    assert (first["Version"], first["Description"]) == ("1", "the first"), first
    assert first["FunctionArn"].endswith(":function:f:1"), first
    assert aws.get_function_configuration(FunctionName="f")["Description"] == "two"
    aws.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="1")
    assert aws.publish_version(FunctionName="f", Description="the first")["Version"] == "1"
    refused("InvalidParameterValueException", aws.publish_version, FunctionName="f", CodeSha256="x")
    aws.update_function_configuration(FunctionName="f", Timeout=9)
    assert aws.publish_version(FunctionName="f")["Version"] == "2"
    published = aws.update_function_code(FunctionName="f", ZipFile=package(), Publish=True)
    assert published["Version"] == "3", published
    pages = aws.get_paginator("list_versions_by_function").paginate(FunctionName="f", PaginationConfig={"PageSize": 2})
    numbers = [v["Version"] for page in pages for v in page["Versions"]]
    assert numbers == ["$LATEST", "1", "2", "3"], numbers
    assert json.loads(call("f:1")[1])["version"] == "1"
    assert call("f", Qualifier="2")[0]["ExecutedVersion"] == "2"
    aws.delete_function(FunctionName="f", Qualifier="3")
    refused("ResourceNotFoundException", aws.get_function, FunctionName="f:3")
    refused("InvalidParameterValueException", aws.delete_function, FunctionName="f:$LATEST")


def aliases():
    made = aws.create_alias(
        FunctionName="f",
        Name="live",
        FunctionVersion="1",
        Description="prod",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    assert made["AliasArn"].endswith(":function:f:live") and made["FunctionVersion"] == "1", made
    assert made["RoutingConfig"]["AdditionalVersionWeights"] == {"2": 0.25}, made
    refused("ResourceConflictException", aws.create_alias, FunctionName="f", Name="live", FunctionVersion="1")
    refused("ResourceNotFoundException", aws.create_alias, FunctionName="f", Name="other", FunctionVersion="9")
    refused("InvalidParameterValueException", aws.create_alias, FunctionName="f", Name="7", FunctionVersion="1")
    changed = aws.update_alias(FunctionName="f", Name="live", FunctionVersion="2", RoutingConfig={}, RevisionId=made["RevisionId"])
    assert changed["FunctionVersion"] == "2" and "RoutingConfig" not in changed, changed
    assert changed["Description"] == "prod"
    refused("PreconditionFailedException", aws.update_alias, FunctionName="f", Name="live", RevisionId=made["RevisionId"])
    refused("ResourceNotFoundException", aws.update_alias, FunctionName="f", Name="nobody")
    aws.create_alias(FunctionName="f", Name="beta", FunctionVersion="$LATEST")
    pages = aws.get_paginator("list_aliases").paginate(FunctionName="f", PaginationConfig={"PageSize": 1})
    assert [a["Name"] for page in pages for a in page["Aliases"]] == ["beta", "live"]
    only = aws.list_aliases(FunctionName="f", FunctionVersion="2")["Aliases"]
    assert [a["Name"] for a in only] == ["live"], only
    assert call("f:live")[0]["ExecutedVersion"] == "2"
    assert aws.get_function(FunctionName="f:live")["Configuration"]["FunctionArn"].endswith(":f:live")
    refused("ResourceConflictException", aws.delete_function, FunctionName="f", Qualifier="2")
    aws.delete_alias(FunctionName="f", Name="beta")
    aws.delete_alias(FunctionName="f", Name="beta")
    refused("ResourceNotFoundException", aws.get_alias, FunctionName="f", Name="beta")
    assert aws.get_alias(FunctionName="f", Name="live")["RevisionId"] == changed["RevisionId"]


def settings():
    arn = "arn:aws:lambda:eu-west-1:000000000000:function:f"
    aws.tag_resource(Resource=arn, Tags={"stage": "x y", "z": "é"})
    assert aws.list_tags(Resource=arn)["Tags"] == {"team": "a", "stage": "x y", "z": "é"}
    aws.untag_resource(Resource=arn, TagKeys=["team", "z"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"stage": "x y"}
    refused("InvalidParameterValueException", aws.list_tags, Resource=arn + ":1")
    refused("ResourceNotFoundException", aws.list_tags, Resource=arn + "f")

    assert aws.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)["ReservedConcurrentExecutions"] == 2
    assert aws.get_function_concurrency(FunctionName="f")["ReservedConcurrentExecutions"] == 2
    assert aws.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 2}
    aws.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    refused("TooManyRequestsException", aws.invoke, FunctionName="f")
    aws.delete_function_concurrency(FunctionName="f")
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName="f")
    refused("ResourceNotFoundException", aws.put_function_concurrency, FunctionName="nobody", ReservedConcurrentExecutions=1)

    kept = {"FunctionName": "f", "Qualifier": "live"}
    refused("ProvisionedConcurrencyConfigNotFoundException", aws.get_provisioned_concurrency_config, **kept)
    put = aws.put_provisioned_concurrency_config(**kept, ProvisionedConcurrentExecutions=1)
    assert put["RequestedProvisionedConcurrentExecutions"] == 1, put
    until = time.monotonic() + 60
    while aws.get_provisioned_concurrency_config(**kept)["Status"] != "READY":
        assert time.monotonic() < until, "nothing was provisioned"
        time.sleep(0.1)
    pages = aws.get_paginator("list_provisioned_concurrency_configs").paginate(FunctionName="f")
    listed = [c["FunctionArn"] for page in pages for c in page["ProvisionedConcurrencyConfigs"]]
    assert listed == [arn + ":live"], listed
    aws.delete_provisioned_concurrency_config(**kept)
    refused("InvalidParameterValueException", aws.put_provisioned_concurrency_config, FunctionName="f", Qualifier="$LATEST", ProvisionedConcurrentExecutions=1)

    account = aws.get_account_settings()
    assert account["AccountUsage"]["FunctionCount"] == 2, account


def urls():
    refused("ResourceNotFoundException", aws.get_function_url_config, FunctionName="f")
    for bad in [{"AuthType": "AWS_IAM"}, {"AuthType": "NONE", "Cors": {"AllowOrigins": ["*"]}}, {"AuthType": "NONE", "Qualifier": "live"}]:
        refused("InvalidParameterValueException", aws.create_function_url_config, FunctionName="f", **bad)
    url = aws.create_function_url_config(FunctionName="f", AuthType="NONE")["FunctionUrl"]
    with urllib.request.urlopen(url + "a?b=c") as answer:
        assert json.load(answer)["event"]["rawPath"] == "/a"
    refused("ResourceConflictException", aws.create_function_url_config, FunctionName="f", AuthType="NONE")
    assert aws.update_function_url_config(FunctionName="f", InvokeMode="BUFFERED")["FunctionUrl"] == url
    pages = aws.get_paginator("list_function_url_configs").paginate(FunctionName="f")
    assert [c["FunctionUrl"] for page in pages for c in page["FunctionUrlConfigs"]] == [url]
    aws.delete_function_url_config(FunctionName="f")
    try:
        urllib.request.urlopen(url)
        raise AssertionError("the URL is open still")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
    refused("ResourceNotFoundException", aws.delete_function_url_config, FunctionName="f")


def events():
    refused("ResourceNotFoundException", aws.get_function_event_invoke_config, FunctionName="f")
    refused("ResourceNotFoundException", aws.update_function_event_invoke_config, FunctionName="f", MaximumRetryAttempts=1)
    # Out of range, botocore itself refuses what is too small and lets pass what is too large.
    for bad in [
        {"MaximumRetryAttempts": 3},
        {"MaximumEventAgeInSeconds": 21_601},
        {"MaximumRetryAttempts": 1, "Qualifier": "live"},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:000000000000:q"}}},
        {},
    ]:
        refused("InvalidParameterValueException", aws.put_function_event_invoke_config, FunctionName="f", **bad)
    put = aws.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
    assert put["MaximumRetryAttempts"] == 0 and "MaximumEventAgeInSeconds" not in put, put
    changed = aws.update_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=120)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 120), changed
    pages = aws.get_paginator("list_function_event_invoke_configs").paginate(FunctionName="f")
    assert [c["MaximumEventAgeInSeconds"] for page in pages for c in page["FunctionEventInvokeConfigs"]] == [120]
    aws.delete_function_event_invoke_config(FunctionName="f")
    refused("ResourceNotFoundException", aws.delete_function_event_invoke_config, FunctionName="f")


def layers():
    content = package("exports.n = 41;", "nodejs/node_modules/dep/index.js")
    made = aws.publish_layer_version(LayerName="dep", Description="a dependency", Content={"ZipFile": content}, CompatibleRuntimes=["nodejs20.x"])
    assert (made["Version"], made["LayerArn"]) == (1, "arn:aws:lambda:eu-west-1:000000000000:layer:dep"), made
    with urllib.request.urlopen(made["Content"]["Location"]) as zipped:
        assert zipped.read() == content
    for got in [
        aws.get_layer_version(LayerName="dep", VersionNumber=1),
        aws.get_layer_version(LayerName=made["LayerArn"], VersionNumber=1),
        aws.get_layer_version_by_arn(Arn=made["LayerVersionArn"]),
    ]:
        assert got["CreatedDate"] == made["CreatedDate"] and got["Description"] == "a dependency", got
    aws.publish_layer_version(LayerName="dep", Content={"ZipFile": package("exports.n = 42;", "nodejs/node_modules/dep/index.js")})
    pages = aws.get_paginator("list_layer_versions").paginate(LayerName="dep", PaginationConfig={"PageSize": 1})
    assert [v["Version"] for page in pages for v in page["LayerVersions"]] == [2, 1]
    listed = aws.list_layers()["Layers"]
    assert [(x["LayerName"], x["LatestMatchingVersion"]["Version"]) for x in listed] == [("dep", 2)], listed
    only = aws.list_layers(CompatibleRuntime="nodejs20.x")["Layers"]
    assert only[0]["LatestMatchingVersion"]["Version"] == 1, only
    code = "exports.handler = async () => require('dep').n;"
    with_layer = create("l", Code={"ZipFile": package(code)}, Layers=[made["LayerVersionArn"]])
    assert with_layer["Layers"] == [{"Arn": made["LayerVersionArn"], "CodeSize": len(content)}], with_layer
    assert call("l")[1] == b"41"
    aws.update_function_configuration(FunctionName="l", Layers=[made["LayerArn"] + ":2"])
    assert call("l")[1] == b"42"
    refused("ResourceNotFoundException", create, name="m", Layers=[made["LayerArn"] + ":9"])
    refused("InvalidParameterValueException", create, name="m", Layers=["dep:1"])
    aws.delete_layer_version(LayerName="dep", VersionNumber=1)
    aws.delete_layer_version(LayerName="dep", VersionNumber=1)
    refused("ResourceNotFoundException", aws.get_layer_version, LayerName="dep", VersionNumber=1)


def listings():
    names = [f["FunctionName"] for page in aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1}) for f in page["Functions"]]
    assert names == ["f", "l", "s"], names
    for size in [1, 2, 50]:
        pages = aws.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": size})
        found = [(f["FunctionName"], f["Version"]) for page in pages for f in page["Functions"]]
        assert found == [("f", "$LATEST"), ("f", "1"), ("f", "2"), ("l", "$LATEST"), ("s", "$LATEST")], (size, found)


def signatures():
    own = boto3.Session().get_credentials()
    wrong = client(own.access_key, "wrong")
    refused("InvalidSignatureException", wrong.list_functions)
    refused("UnrecognizedClientException", client("HSAKAAAAAAAAAAAAAAAA", "wrong").list_functions)
    try:
        urllib.request.urlopen(ENDPOINT + "/2015-03-31/functions")
        raise AssertionError("nobody was asked for a signature")
    except urllib.error.HTTPError as error:
        assert (error.code, error.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")
    other = client(OTHER_ID, OTHER_SECRET, "us-west-2")
    assert other.list_functions()["Functions"] == []
    refused("ResourceNotFoundException", other.get_function, FunctionName="f")
    refused("ResourceNotFoundException", other.invoke, FunctionName="f")
    refused("AccessDeniedException", other.get_function, FunctionName="000000000000:function:f")
    made = other.create_function(FunctionName="f", Runtime="nodejs20.x", Handler="index.handler", Role=ROLE, Code={"ZipFile": package()})
    _, _, _, region, account, _, name = made["FunctionArn"].split(":")
    assert (region, name) == ("us-west-2", "f") and account != "0" * 12, made
    other.delete_function(FunctionName="f")


def command_line():
    """The same by the command line: what its own code does with requests and answers."""
    here = os.path.dirname(sys.executable)

    def run(*words, json_out=True):
        command = [os.path.join(here, "aws"), "--endpoint-url", ENDPOINT, "lambda", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        return json.loads(done.stdout) if json_out and done.stdout else done.stdout

    with open("code.zip", "wb") as file:
        file.write(package())
    made = run("create-function", "--function-name", "c", "--runtime", "nodejs20.x", "--handler", "index.handler", "--role", ROLE, "--zip-file", "fileb://code.zip", "--publish")
    assert made["Version"] == "1", made
    answer = run("invoke", "--function-name", "c:1", "--payload", '{"n": 1}', "--log-type", "Tail", "out.json")
    assert answer["ExecutedVersion"] == "1" and "LogResult" in answer, answer
    with open("out.json") as out:
        assert json.load(out)["event"] == {"n": 1}
    listed = run("list-functions", "--query", "Functions[].FunctionName")
    assert listed == ["c", "f", "l", "s"], listed
    run("delete-function", "--function-name", "c", json_out=False)


def gone():
    for name in ["f", "l", "s"]:
        aws.delete_function(FunctionName=name)
        refused("ResourceNotFoundException", aws.delete_function, FunctionName=name)
    assert aws.list_functions()["Functions"] == []


for part in [functions, changes, calls, streams, versions, aliases, settings, urls, events, layers, listings, signatures, command_line, gone]:
    start = time.monotonic()
    part()
    print(f"{part.__name__}: {time.monotonic() - start:.1f} s", flush=True)
print("operations:", len(seen))
