"""Writes tests/golden/templates.json: chat templates and what transformers renders of them.

Usage: python make_templates.py
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "query", "content": "it's <b>x & y</b> \u00e9 \u2028 C3PO they're"},
    {"role": "document", "content": " \x1c one\ttwo\x0bthree\r\nfour\u0085five\n\n\x1f"},
]
PARTS = [
    {"role": "query", "content": [{"type": "text", "text": "what"}]},
    {"role": "document", "content": [{"type": "text", "text": "that"}]},
]
TEMPLATES = [
    "{{ messages[0].keys() | join(';') }}",
    "{% for key in messages[0] %}{{ key }},{% endfor %}",
    "{% for key, value in messages[1].items() %}{{ key }}={{ value }};{% endfor %}",
    "{{ messages[0] | first }}{{ {'z': 1, 'a': 2}.items() | map('join', ':') | join }}",
    "{{ messages[0].values() | first }}",
    "{{ messages[0] | tojson }}{{ messages | tojson(ensure_ascii=False) }}",
    "{{ {'b': [1, 2.5, none, true], 'a': {}} | tojson }}{{ [] | tojson }}",
    "{{ messages[1].content | trim }}|{{ messages[1].content.strip() }}",
    "{{ messages[1].content.lstrip() }}|{{ messages[1].content.rstrip() }}",
    "{{ messages[1].content.split() | join(';') }}|{{ messages[1].content.splitlines() | join(';') }}",
    "{{ messages[1].content.splitlines(true) | join(';') }}{{ 'a,b,c'.split(',', 1) | last }}",
    "{{ 'xxaxx' | trim('x') }}{{ 'xxaxx'.strip('x') }}",
    "{{ '\x1c '.isspace() }}{{ ''.isspace() }}{{ 'a'.isspace() }}",
    "{% if messages[0].content is string %}s{% endif %}{{ 'a' is sequence }}",
    "{{ messages[0] is sequence }}{{ messages is sequence }}{{ 1 is sequence }}",
    "{{ messages[0] is mapping }}{{ messages is mapping }}{{ messages is iterable }}",
    "a\r\nb{% if true %}\r\nc\r\n{% endif %}\r\nd\r\n",
    "{{ none }} {{ true }} {{ 1.0 }} {{ 2.5e-3 }} {{ [none, 'a', true] | join(' ') }} {{ (1, 2) | last }}",
    "{{ messages[0].content.upper() }}{{ messages[0].content | capitalize }}",
    "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.n }}",
    "{%- for m in messages %}\n  {{- m.role ~ ': ' ~ m.content }}\n{%- endfor %}\n",
    "{{ messages[-1]['content'][:3] }}{{ messages[::-1][0].role }}{{ 7 // 2 }}{{ 7 / 2 }}{{ -7 % 3 }}",
    "{{ 'a' if add_generation_prompt else 'b' }}{{ missing }}{{ missing is defined }}",
    "{% macro m(a, b='x') %}{{ a }}-{{ b }}{% endmacro %}{{ m('1') }}{{ m('1', b=2) }}",
]


OF_PARTS = [
    "{% for m in messages %}{{ m.role }}{% for part in m.content %}{{ part.type }}{{ part.text }}{% endfor %}{% endfor %}",
    "{{ messages[0].content | map(attribute='text') | join }}{{ messages[1].content[0] | first }}",
    "{% for key in messages[0].content[0] %}{{ key }},{% endfor %}{{ messages | tojson }}",
    "{% if messages[0].content is string %}s{% elif messages[0].content is sequence %}l{% endif %}",
]


def main() -> None:
    cases = []
    for messages, templates in ((MESSAGES, TEMPLATES), (PARTS, OF_PARTS)):
        for template in templates:
            rendered = render_jinja_template([messages], chat_template=template)[0][0]
            cases.append({"messages": messages, "template": template, "rendered": rendered})
    path = Path(__file__).parents[1] / "golden/templates.json"
    path.write_text(json.dumps(cases, indent=1) + "\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
