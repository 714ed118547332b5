#!/usr/bin/env python3
"""Writes tests/golden/jinja/{expressions,chat}.json: what Jinja2 makes of our templates.

    pip install jinja2==3.1.6 && python tests/golden/make_chat_golden.py

The environment is the one of Transformers' apply_chat_template: immutable sandbox, trim_blocks, lstrip_blocks, loop
controls, the `generation` tag, raise_exception, strftime_now, and tojson without HTML escapes.
"""
import copy
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

import jinja_expression_cases as expressions

HERE = pathlib.Path(__file__).resolve().parent / "jinja"
NOW = datetime.datetime(2024, 7, 26, 12, 0, 0)
TAG = "CONTINUE_FINAL_MESSAGE_TAG "


class Generation(jinja2.ext.Extension):
    """{% generation %}: a scope of its own around the assistant's text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


class TemplateRaised(Exception):
    pass


def raise_exception(message):
    raise TemplateRaised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render_expression(env, source):
    try:
        return env.from_string(source).render(**copy.deepcopy(expressions.VARIABLES))
    except Exception:  # whatever Python raises: the template must fail
        return None


def write_expressions():
    env = environment()
    cases = [[source, render_expression(env, source)] for source in dict.fromkeys(expressions.CASES)]
    # Strings Jinja2 renders with an address of Python's memory or its own class names are not ours to repeat.
    cases = [c for c in cases if c[1] is None or ("0x7" not in c[1] and "<" + "class" not in c[1] and "object at" not in c[1])]
    path = HERE / "expressions.json"
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    path.write_text('{"variables":' + json.dumps(expressions.VARIABLES, ensure_ascii=False) + ',\n"cases":[\n' + lines + "\n]}\n")
    print(path.name, len(cases), "cases,", sum(c[1] is None for c in cases), "of them errors")


def continue_final(messages):
    """The messages with a tag behind the text to continue, and that text."""
    messages = copy.deepcopy(messages)
    final = messages[-1]["content"]
    if isinstance(final, list):
        for part in reversed(final):
            if "text" in part:
                final = part["text"]
                part["text"] += TAG
                break
    else:
        messages[-1]["content"] += TAG
    return messages, final


def cut(text, final):
    if final.strip() not in text or TAG.strip() not in text:
        raise ValueError("the final message is not in the output")
    at = text.rindex(TAG.strip())
    return text[:at] if text[at:at + len(TAG)] == TAG else text[:at].rstrip()


def render_chat(template, case):
    messages, final = case["messages"], None
    try:
        if case.get("continue_final_message"):
            messages, final = continue_final(messages)
        text = template.render(
            messages=copy.deepcopy(messages), tools=copy.deepcopy(case.get("tools")), documents=None,
            add_generation_prompt=case.get("add_generation_prompt", False), bos_token="<s>", eos_token="</s>",
            **copy.deepcopy(case.get("extra", {})))
        return {"text": text if final is None else cut(text, final)}
    except TemplateRaised as raised:
        return {"raised": str(raised)}
    except Exception:
        return {"error": True}


def write_chat():
    env = environment()
    cases = json.loads((HERE / "conversations.json").read_text())
    golden = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = env.from_string(path.read_text())
        golden[path.stem] = {name: render_chat(template, case) for name, case in cases.items()}
    lines = []
    for name, results in golden.items():
        inner = ",\n".join(f" {json.dumps(c)}:{json.dumps(r, ensure_ascii=False)}" for c, r in results.items())
        lines.append(f"{json.dumps(name)}:{{\n{inner}\n}}")
    (HERE / "chat.json").write_text("{" + ",\n".join(lines) + "}\n")
    results = [r for t in golden.values() for r in t.values()]
    print("chat.json", len(golden), "templates,", len(results), "renderings,",
          sum("raised" in r for r in results), "raise,", sum("error" in r for r in results), "fail")


if __name__ == "__main__":
    write_expressions()
    write_chat()
