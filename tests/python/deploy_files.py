"""The files in config/deploy for Kubernetes, Docker and systemd: valid by the schemas of their makers, and about this server.

Arguments: the address of a server, and its program.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from pathlib import Path

import compose_spec
import jsonschema
import kubernetes_validate
import yaml

ADDRESS, TENON = sys.argv[1:]
HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "config/deploy"
TOML = (DEPLOY / "tenon.toml").read_text()
CONFIG = tomllib.loads(TOML)
# Seconds from SIGTERM to the server's end.
DRAIN = CONFIG["server"]["drain_delay_secs"] + CONFIG["server"]["drain_timeout_secs"]
GATEWAY_SCHEMAS = json.loads((HERE / "gateway_schemas.json").read_text())


def get(path):
    with urllib.request.urlopen(ADDRESS + path) as response:
        return response.read().decode()


def documents(name):
    """The documents of a file by kind and name."""
    parsed = yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in parsed}


TENON_YAML, GATEWAY_YAML = documents("tenon.yaml"), documents("gateway.yaml")
ALL = TENON_YAML | GATEWAY_YAML


def kubernetes_accepts_each_document():
    for (kind, name), document in ALL.items():
        if kind in GATEWAY_SCHEMAS["$defs"]:
            schema = GATEWAY_SCHEMAS | {"$ref": f"#/$defs/{kind}"}
            jsonschema.validate(document, schema)
        else:
            kubernetes_validate.validate(document, "1.37", strict=True)


def references_lead_somewhere():
    for (kind, name), document in ALL.items():
        spec = document.get("spec", {})
        if kind == "Deployment":
            pod = spec["template"]
            assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"], name
            check_volumes(pod["spec"])
        if kind in ("Service", "PodDisruptionBudget", "InferencePool"):
            labels = spec["selector"].get("matchLabels", spec["selector"])
            pods = [d["spec"]["template"] for (k, _), d in ALL.items() if k == "Deployment"]
            selected = [pod["spec"] for pod in pods if labels.items() <= pod["metadata"]["labels"].items()]
            assert len(selected) == 1, name
            for port in spec.get("ports", []):
                assert port["targetPort"] in {p["name"] for p in container(selected[0])["ports"]}, name
    target = ALL["HorizontalPodAutoscaler", "tenon"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in ALL
    picker = ALL["InferencePool", "tenon"]["spec"]["endpointPickerRef"]
    ports = ALL["Service", picker["name"]]["spec"]["ports"]
    assert picker["port"]["number"] in {port["port"] for port in ports}
    for rule in ALL["HTTPRoute", "tenon"]["spec"]["rules"]:
        assert all((backend["kind"], backend["name"]) in ALL for backend in rule["backendRefs"])
    binding = ALL["RoleBinding", "tenon-epp"]
    for end in (binding["roleRef"], *binding["subjects"]):
        assert (end["kind"], end["name"]) in ALL
    assert ("ServiceAccount", ALL["Deployment", "tenon-epp"]["spec"]["template"]["spec"]["serviceAccountName"]) in ALL


def check_volumes(pod):
    mounted = {mount["name"] for mount in container(pod)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    for volume in pod["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in ALL
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in ALL


def container(pod):
    [only] = pod["containers"]
    return only


def the_deployment_fits_the_configuration():
    assert TENON_YAML["ConfigMap", "tenon"]["data"]["tenon.toml"] == TOML
    pod = TENON_YAML["Deployment", "tenon"]["spec"]["template"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > DRAIN
    tenon = container(pod["spec"])
    [port] = tenon["ports"]
    [target] = GATEWAY_YAML["InferencePool", "tenon"]["spec"]["targetPorts"]
    assert port["containerPort"] == target["number"] == CONFIG["server"]["port"]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in tenon["volumeMounts"]}
    check_paths(mounts)


def check_paths(mounts):
    """Checks the mounts of a container whose root is read only: the folders of models are read only too, and the cache is not."""
    for model in CONFIG["models"]:
        assert mounts[str(Path(model["path"]).parent)] is True
    assert mounts[CONFIG["plugins"]["cache_directory"]] is False


def the_server_has_what_the_deployment_asks_for():
    pod = TENON_YAML["Deployment", "tenon"]["spec"]["template"]
    tenon = container(pod["spec"])
    for probe in ("livenessProbe", "readinessProbe"):
        get(tenon[probe]["httpGet"]["path"])
    hook = tenon["lifecycle"]["preStop"]["exec"]["command"]
    path = hook[-1].removeprefix(f"http://127.0.0.1:{CONFIG['server']['port']}")
    assert hook[hook.index("--request") + 1].lower() in json.loads(get("/openapi.json"))["paths"][path]
    gauges = set(re.findall(r"^# TYPE (\S+) gauge$", get(pod["metadata"]["annotations"]["prometheus.io/path"]), re.M))
    for metric in TENON_YAML["HorizontalPodAutoscaler", "tenon"]["spec"]["metrics"]:
        assert metric["pods"]["metric"]["name"] in gauges


def the_endpoint_picker_s_profile_names_its_plugins():
    config = yaml.safe_load(GATEWAY_YAML["ConfigMap", "tenon-epp"]["data"]["config.yaml"])
    plugins = {plugin["type"] for plugin in config["plugins"]}
    for profile in config["schedulingProfiles"]:
        assert {plugin["pluginRef"] for plugin in profile["plugins"]} == plugins


def compose_accepts_the_file():
    text = (DEPLOY / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(text)
    tenon = yaml.safe_load(text)["services"]["tenon"]
    assert int(tenon["stop_grace_period"].removesuffix("s")) > DRAIN
    assert tenon["ports"] == [f"127.0.0.1:{CONFIG['server']['port']}:{CONFIG['server']['port']}"]
    volumes = [volume.split(":") for volume in tenon["volumes"]]
    check_paths({place: "ro" in options for _, place, *options in volumes})
    assert tenon["read_only"]


def the_image_runs_the_server_without_rights():
    text = (DEPLOY / "Dockerfile").read_text()
    assert int(re.search(r"docker run .*--stop-timeout (\d+)", text)[1]) > DRAIN
    lines = text.replace("\\\n", "").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    last = {name: rest for name, rest in instructions}
    assert "0" not in last["USER"].split(":")
    assert int(last["EXPOSE"]) == CONFIG["server"]["port"]
    assert last["VOLUME"] == CONFIG["plugins"]["cache_directory"]
    command = json.loads(last["HEALTHCHECK"].split("CMD ")[1])
    get(command[-1].removeprefix(f"http://127.0.0.1:{CONFIG['server']['port']}"))
    assert json.loads(last["CMD"]) == ["serve", "--config", "/etc/tenon/tenon.toml"]


def systemd_accepts_the_unit():
    unit = (DEPLOY / "tenon.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1]) > DRAIN
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd-analyze is not installed"
        print("skipped: systemd-analyze is not installed (.ci/setup --ci installs it)", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tenon.service"
        path.write_text(unit.replace("/opt/tenon/tenon ", f"{TENON} "))
        said = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
        assert "tenon.service" not in said.stderr, said.stderr
        # At most 1.5 of 10.
        subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", path], check=True)


def the_unit_can_run_the_example_of_a_public_server():
    unit = (DEPLOY / "tenon.service").read_text()
    # Settings that this example needs are there as comments.
    settings = dict(re.findall(r"^(?:# )?([A-Z]\w+)=(.*)$", unit, re.M))
    example = tomllib.loads((DEPLOY.parent / "examples/public-server.toml").read_text())
    server = example["server"]
    assert int(settings["TimeoutStopSec"]) > server["drain_delay_secs"] + server["drain_timeout_secs"]
    sockets = [address.removeprefix("unix:") for address in server["listen"] + server["admin_listen"] if address.startswith("unix:")]
    assert {str(Path(socket).parent) for socket in sockets} == {f"/run/{settings['RuntimeDirectory']}"}
    assert re.search(r"^RuntimeDirectory=", unit, re.M)
    if any("env" in key for key in example["keys"]):
        assert "EnvironmentFile" in settings
    if "tls" in example or any("key_file" in key for key in example["keys"]):
        assert "User" in settings


def the_configuration_is_valid():
    subprocess.run([TENON, "config", "check", DEPLOY / "tenon.toml"], check=True)


kubernetes_accepts_each_document()
references_lead_somewhere()
the_deployment_fits_the_configuration()
the_server_has_what_the_deployment_asks_for()
the_endpoint_picker_s_profile_names_its_plugins()
compose_accepts_the_file()
the_image_runs_the_server_without_rights()
systemd_accepts_the_unit()
the_unit_can_run_the_example_of_a_public_server()
the_configuration_is_valid()
