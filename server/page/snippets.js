// The request of the playground as code that runs elsewhere. Keys are named, never shown.

const KEY_VARIABLE = "TRIREME_API_KEY";

const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function asCurl(base, request, needsKey) {
  const lines = [`curl ${shellQuoted(`${base}v1/chat/completions`)}`, "-N", "-H 'content-type: application/json'"];
  if (needsKey) lines.push(`-H "authorization: Bearer $${KEY_VARIABLE}"`);
  lines.push(`-d ${shellQuoted(JSON.stringify(request, null, 2))}`);
  return lines.join(" \\\n  ");
}

// A JSON value as a Python literal.
function python(value, indent) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const items = Array.isArray(value)
    ? value.map((item) => inner + python(item, inner))
    : Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${python(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return items.length === 0 ? open + close : `${open}\n${items.join(",\n")},\n${indent}${close}`;
}

export function asPython(base, request, needsKey) {
  const fields = Object.entries(request).map(([name, value]) => `    ${name}=${python(value, "    ")},`);
  const key = needsKey ? `os.environ["${KEY_VARIABLE}"]` : '"none"';
  return `${needsKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(`${base}v1`)}, api_key=${key})
stream = client.chat.completions.create(
${fields.join("\n")}
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}
