"""deploy/sbom.py: the SPDX document of a built program."""
import importlib.util
import json
import os
import pathlib
import re
import sys

import pytest
from shipped import DEPLOY, ROOT, run

@pytest.fixture(scope="module")
def sbom(binary, tmp_path_factory):
    out = tmp_path_factory.mktemp("sbom") / "trireme.spdx.json"
    build = pathlib.Path(binary).parent
    more = ["--build-directory", build] if (build / ".ninja_deps").exists() else []
    result = run(sys.executable, DEPLOY / "sbom.py", binary, "--version", "0.1.0", "--output", out, *more)
    assert result.returncode == 0, result.stderr
    return out


def test_sbom_has_spdx_structure(sbom):
    document = json.loads(sbom.read_text())
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert document["documentNamespace"].startswith("urn:uuid:") and document["creationInfo"]["creators"]
    for package in document["packages"]:
        assert {"SPDXID", "name", "downloadLocation", "licenseDeclared", "versionInfo"} <= set(package)
    elements = [document, *document["packages"], *document["files"]]
    ids = [element["SPDXID"] for element in elements]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids)
    used = set()
    for link in document["relationships"]:
        used |= {link["spdxElementId"], link["relatedSpdxElement"]}
    assert used == set(ids)  # every end is there, and nothing stands alone
    known = {entry["licenseId"] for entry in document.get("hasExtractedLicensingInfos", [])}
    named = {n for p in document["packages"] for n in re.findall(r"LicenseRef-[A-Za-z0-9.-]+", p["licenseDeclared"])}
    assert named <= known


def test_sbom_tells_the_program_and_its_libraries(sbom, binary):
    document = json.loads(sbom.read_text())
    digest = run("sha256sum", binary).stdout.split()[0]
    own = next(package for package in document["packages"] if package["name"] == "trireme")
    assert {"algorithm": "SHA256", "checksumValue": digest} in own["checksums"]
    linked = {link["relatedSpdxElement"] for link in document["relationships"] if link["relationshipType"] == "DEPENDS_ON"}
    names = {package["name"] for package in document["packages"] if package["SPDXID"] in linked}
    assert names == set(run(DEPLOY / "container/runtime_packages.sh", binary).stdout.split())
    openssl = next(package for package in document["packages"] if package["name"] == "libssl3")
    version = run("dpkg-query", "-W", "-f", "${Version}", "libssl3").stdout
    assert openssl["versionInfo"] == version and "Apache-2.0" in openssl["licenseDeclared"]
    assert openssl["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libssl3@")


def test_sbom_is_reproducible(binary, tmp_path):
    texts = [run(sys.executable, DEPLOY / "sbom.py", binary, "--version", "0.1.0",
                 env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}).stdout for _ in range(2)]
    assert texts[0] == texts[1] and json.loads(texts[0])["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_sbom_satisfies_the_spdx_validator(sbom):
    pytest.importorskip("spdx_tools")
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
    assert [message.validation_message for message in validate_full_spdx_document(parse_file(str(sbom)))] == []


@pytest.mark.parametrize("field, expected", [
    ("Expat", "MIT"), ("GPL-2+ or Artistic", "GPL-2.0-or-later OR Artistic-1.0-Perl"),
    ("Expat or ISC, and Zlib", "(MIT OR ISC) AND Zlib"), ("Odd One", "LicenseRef-source-Odd-One")])
def test_debian_licences_become_spdx_expressions(field, expected):
    spec = importlib.util.spec_from_file_location("sbom", DEPLOY / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    licences = module.Licences()
    assert licences._expression(field, "source", {"odd one": " Do as you like.\n"}) == expected
    assert all(entry["extractedText"] == "Do as you like." for entry in licences.extracted.values())


def test_release_builds_make_the_sbom():
    presets = json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    release = next(preset for preset in presets if preset["name"] == "release")
    assert release["cacheVariables"]["TRIREME_SBOM"] == "ON"
