#!/usr/bin/env python3
"""Writes what a built program is made of, as SPDX 2.3 JSON: the program, the shared libraries that it is linked against
with their Debian packages, and, where Ninja's build directory is given, the packages whose headers were compiled in.

    deploy/sbom.py PROGRAM --name trireme --version 0.1.0 [--build-directory DIR] [--output FILE]

Licences are those of the packages' machine-readable /usr/share/doc/*/copyright, which speaks for the whole source package;
NOASSERTION where there is none. Standard library only. The same program and packages give the same document when
SOURCE_DATE_EPOCH is set.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

DOC = pathlib.Path("/usr/share/doc")
NOTHING = "NOASSERTION"

# Debian's short names (and what packages write in their place) -> SPDX identifiers. What is missing here becomes a
# LicenseRef with the text.
SPDX_NAMES = {
    "0bsd": "0BSD", "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl",
    "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsl-1.0": "BSL-1.0", "boost-1.0": "BSL-1.0",
    "cc0-1.0": "CC0-1.0", "cc0": "CC0-1.0", "expat": "MIT", "isc": "ISC", "mit": "MIT", "x11": "X11", "zlib": "Zlib",
    "apache-2.0 with llvm exception": "Apache-2.0 WITH LLVM-exception",
    "gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later",
    "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later", "gpl-2.0": "GPL-2.0-only", "gpl-2.0+": "GPL-2.0-or-later",
    "gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later",
    "lgpl-2": "LGPL-2.0-only", "lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later", "lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later",
}


def run(*command):
    """Standard output of a command. One that fails or is not here (no Debian, no Ninja) tells nothing: no error."""
    try:
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    except FileNotFoundError:
        return ""


def spdx_id(kind, name):
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9.-]", lambda c: f"-{ord(c[0]):x}-", name)


def checksums(path):
    data = pathlib.Path(path).read_bytes()
    return [{"algorithm": name.upper(), "checksumValue": hashlib.new(name, data).hexdigest()}
            for name in ("sha1", "sha256")]


def shared_libraries(program):
    """Paths of everything that the loader maps beside the program."""
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    if "not found" in found:
        sys.exit(f"{program} lacks libraries:\n{found}")
    names = re.findall(r"(?:=> |^\s*)(/\S+) \(0x", found, re.M)
    return sorted({str(pathlib.Path(name).parent.resolve() / pathlib.Path(name).name) for name in names})


def compiled_headers(build_directory):
    """Headers outside the tree that the product's objects were compiled with. -n: Ninja may be running just now."""
    headers, ours = set(), True
    for line in run("ninja", "-n", "-C", str(build_directory), "-t", "deps").splitlines():
        if line.startswith(" "):
            path = os.path.normpath(os.path.join(build_directory, line.strip()))
            if ours and path.startswith("/usr/"):
                headers.add(path)
        elif line:
            ours = not line.startswith("tests/")
    return sorted(headers)


def owners(paths):
    """Path -> Debian package. Packages may know a path without the /usr of the merged /usr."""
    owner = {}
    forms = {form: path for path in paths for form in (path, path.removeprefix("/usr"))}
    names = sorted(forms)
    for i in range(0, len(names), 500):
        for line in run("dpkg-query", "-S", *names[i:i + 500]).splitlines():
            package, _, form = line.partition(": ")
            if form in forms and not line.startswith("diversion by "):
                owner[forms[form]] = package.split(",")[0]
    return owner


def distribution():
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(), re.M))
    return f"{fields.get('ID', 'debian')}-{fields.get('VERSION_ID', '')}".rstrip("-")


class Licences:
    """Turns Debian's licence fields into SPDX expressions and keeps the texts that SPDX has no name for."""

    def __init__(self):
        self.extracted = {}  # id -> entry of hasExtractedLicensingInfos

    def of_package(self, package, source):
        path = DOC / package / "copyright"
        text = path.read_text(errors="replace") if path.exists() else ""
        if not re.match(r"Format: *https?://www\.debian\.org/doc/packaging-manuals/copyright-format/", text):
            return NOTHING
        paragraphs = [self._fields(p) for p in re.split(r"\n\s*\n", text)]
        texts = {}
        for fields in paragraphs:
            name, _, body = fields.get("license", "").partition("\n")
            if body.strip() and name.strip().lower() not in texts:
                texts[name.strip().lower()] = body
        used = {fields["license"].split("\n")[0].strip(): None for fields in paragraphs
                if "license" in fields and "files" in fields and fields["files"].strip() != "debian/*"}
        expressions = [self._expression(name, source, texts) for name in used if name]
        terms = {term: None for e in expressions for term in ([e] if " OR " in e else e.split(" AND "))}
        return " AND ".join(f"({t})" if " OR " in t and len(terms) > 1 else t for t in terms) or NOTHING

    @staticmethod
    def _fields(paragraph):
        found = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.M)
        return {name.lower(): value for name, value in found}

    def _expression(self, name, source, texts):
        # "A or B, and C": a comma closes a group.
        parts = re.split(r",\s*(and|or)\s+", name, flags=re.I)
        groups = [re.split(r"\s+(and|or)\s+", part, flags=re.I) for part in parts[::2]]
        rendered = [" ".join(word.upper() if i % 2 else self._one(word, source, texts) for i, word in enumerate(group))
                    for group in groups]
        if len(groups) == 1:
            return rendered[0]
        out = [f"({text})" if len(group) > 1 else text for text, group in zip(rendered, groups)]
        return " ".join(word.upper() if i % 2 else out[i // 2] for i, word in enumerate(parts))

    def _one(self, name, source, texts):
        name = name.strip()
        if name.lower() in SPDX_NAMES:
            return SPDX_NAMES[name.lower()]
        # The same name means different texts in different sources.
        key = "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", f"{source}-{name}")
        text = "\n".join(line.strip() for line in texts.get(name.lower(), "").splitlines()).strip()
        self.extracted[key] = {"licenseId": key, "name": name,
                               "extractedText": text or f"See the copyright file of Debian's {source}"}
        return key


def debian_package(name, licences):
    form = "${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\t${Homepage}"
    package, version, architecture, source, source_version, homepage = run("dpkg-query", "-W", "-f", form, name).split("\t")
    purl = "pkg:deb/debian/{}@{}?arch={}&distro={}".format(
        urllib.parse.quote(package), urllib.parse.quote(version, safe=""), architecture, distribution())
    return {
        "SPDXID": spdx_id("Package", package), "name": package, "versionInfo": version,
        "supplier": "Organization: Debian", "downloadLocation": NOTHING, "filesAnalyzed": False,
        "homepage": homepage if homepage.startswith("http") else NOTHING,
        "sourceInfo": f"built from {source} {source_version}",
        "licenseConcluded": NOTHING, "licenseDeclared": licences.of_package(package, source), "copyrightText": NOTHING,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
    }


def file_entry(path, name, licence=NOTHING):
    return {"SPDXID": spdx_id("File", name), "fileName": name, "fileTypes": ["BINARY"], "checksums": checksums(path),
            "licenseConcluded": licence, "licenseInfoInFiles": [NOTHING], "copyrightText": NOTHING}


def document(program, name, version, build_directory):
    licences = Licences()
    libraries = shared_libraries(program)
    headers = compiled_headers(build_directory) if build_directory else []
    owner = owners(libraries + headers)
    own_file = file_entry(program, f"./{name}", "Apache-2.0")
    own = {
        "SPDXID": spdx_id("Package", name), "name": name, "versionInfo": version,
        "primaryPackagePurpose": "APPLICATION", "supplier": NOTHING, "downloadLocation": NOTHING,
        "filesAnalyzed": True, "licenseInfoFromFiles": [NOTHING], "checksums": own_file["checksums"],
        "packageVerificationCode": {"packageVerificationCodeValue": hashlib.sha1(
            own_file["checksums"][0]["checksumValue"].encode()).hexdigest()},
        "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0", "copyrightText": NOTHING,
    }
    packages = {package: debian_package(package, licences) for package in sorted(set(owner.values()))}
    files = {path: file_entry(path, f".{path}") for path in libraries}

    links = [("SPDXRef-DOCUMENT", "DESCRIBES", own["SPDXID"]), (own["SPDXID"], "CONTAINS", own_file["SPDXID"])]
    for path in libraries:
        links.append((own_file["SPDXID"], "DYNAMIC_LINK", files[path]["SPDXID"]))
        if path in owner:
            links.append((files[path]["SPDXID"], "EXPANDED_FROM_ARCHIVE", packages[owner[path]]["SPDXID"]))
    for package in sorted({owner[path] for path in libraries if path in owner}):
        links.append((own["SPDXID"], "DEPENDS_ON", packages[package]["SPDXID"]))
    for package in sorted({owner[path] for path in headers if path in owner}):
        links.append((packages[package]["SPDXID"], "BUILD_DEPENDENCY_OF", own["SPDXID"]))

    content = {
        "packages": [own, *packages.values()], "files": [own_file, *files.values()],
        "relationships": [{"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b} for a, kind, b in links],
    }
    if licences.extracted:
        content["hasExtractedLicensingInfos"] = [licences.extracted[key] for key in sorted(licences.extracted)]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch else \
        datetime.datetime.now(datetime.timezone.utc)
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"{name}-{version}",
        "documentNamespace": uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True) + now.isoformat()).urn,
        "creationInfo": {"created": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": [f"Tool: {name}-sbom-{version}"]},
        **content,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program")
    parser.add_argument("--name", default="trireme")
    parser.add_argument("--version", required=True)
    parser.add_argument("--build-directory", help="Ninja's: adds the packages whose headers were compiled in")
    parser.add_argument("--output", default="-", help="-: standard output")
    arguments = parser.parse_args()
    build = pathlib.Path(arguments.build_directory).resolve() if arguments.build_directory else None
    text = json.dumps(document(arguments.program, arguments.name, arguments.version, build), indent=1) + "\n"
    if arguments.output == "-":
        sys.stdout.write(text)
    else:
        pathlib.Path(arguments.output).write_text(text)


if __name__ == "__main__":
    main()
