"""Carries out the tenant's script as PowerShell 7 would, as far as the script's words go.

PowerShell itself is not to be had from the registries the tests install from.  This is no substitute for it: it knows
the few dozen words that the script uses, by their documentation (about_Arrays, about_Comparison_Operators,
about_Scopes, about_Quoting_Rules and so on), and stops at any other.  The text is taken apart by tree-sitter's grammar
of PowerShell.  `az` is the real one; other commands are those that the test gives.
"""

import json
import os
import re
import subprocess
import tempfile
from urllib.parse import quote

from tree_sitter import Language, Parser
from tree_sitter_powershell import language


class Thrown(Exception):
    """What `throw` says, or a command that failed."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Return(Exception):
    pass


class _Block:
    def __init__(self, body, parameters=()):
        self.body = body
        self.parameters = parameters


class _Table(dict):
    """What @{ } makes; the objects of commands are plain dicts."""


class Powershell:
    """One session.  `commands`: name in lower case -> function(inputs, positional, named) -> list of outputs."""

    def __init__(self, commands, environment):
        self.printed = []
        self.az_calls = []
        self.slept = 0
        self._environment = environment
        self._scopes = [{"null": None, "true": True, "false": False, "lastexitcode": 0}]
        self._functions = {}
        self._commands = {**self._own_commands(), **commands}

    def run(self, text):
        """Carry the whole text out."""
        parser = Parser(Language(language()))
        plain = _without_comments(parser.parse(text.encode()).root_node, text.encode())
        root = parser.parse(plain).root_node
        assert not root.has_error, "the grammar does not understand this"
        for node in root.named_children:
            self._outputs(node)

    # --- variables

    def _get(self, name):
        for scope in reversed(self._scopes):
            if name.lower() in scope:
                return scope[name.lower()]
        return None

    def _set(self, name, value):
        self._scopes[-1][name.lower()] = value

    def _call(self, block, arguments=(), item=None):
        """What a block or a function puts out, in a scope of its own."""
        self._scopes.append({"_": item} if item is not None else {})
        try:
            for number, parameter in enumerate(block.parameters):
                self._set(parameter, arguments[number] if number < len(arguments) else None)
            return self._body(block.body)
        finally:
            self._scopes.pop()

    def _body(self, node):
        out = []
        try:
            self._into(node, out)
        except _Return as ended:
            out += ended.args[0]
        return out

    # --- statements: each adds what it puts out to a list

    def _outputs(self, node):
        out = []
        self._into(node, out)
        return out

    def _into(self, node, out):
        kind = node.type
        if kind in ("statement_list", "statement_block", "script_block", "script_block_body"):
            for child in node.named_children:
                self._into(child, out)
        elif kind == "empty_statement":
            pass
        elif kind == "pipeline":
            (inner,) = node.named_children
            if inner.type == "assignment_expression":
                self._assign(inner)
            else:
                out += self._chain(inner)
        else:
            getattr(self, f"_do_{kind}")(node, out)

    def _chain(self, node):
        """The parts of a pipeline, one after the other."""
        passed = None
        for part in node.named_children:
            passed = self._command(part, passed) if part.type == "command" else self._unrolled(self._value(part))
        return passed

    def _assign(self, node):
        target, operator, source = node.named_children
        operator = operator.text.decode()
        value = self._assigned(source)
        target = _inner(target)
        if target.type == "array_literal_expression":
            names = [_inner(child) for child in target.named_children]
            for number, name in enumerate(names):
                self._store(name, value[number] if isinstance(value, list) and number < len(value) else None)
            return
        if operator == "+=":
            value = _added(self._value(target), value)
        self._store(target, value)

    def _assigned(self, source):
        """An expression keeps its form; of what commands and statements put out, a single thing is no array."""
        if source.type == "pipeline":
            parts = source.named_children[0].named_children
            if len(parts) == 1 and parts[0].type != "command":
                return self._value(parts[0])
        return _collapsed(self._outputs(source))

    def _store(self, target, value):
        if target.type == "variable":
            self._set(_name(target), value)
        elif target.type == "element_access":
            self._value(target.named_children[0])[self._value(target.named_children[1])] = value
        else:
            raise AssertionError(target.type)

    def _do_if_statement(self, node, out):
        condition, block, *others = node.named_children
        if _true(self._condition(condition)):
            return self._into(block, out)
        for other in others:
            if other.type == "elseif_clauses":
                for clause in other.named_children:
                    if _true(self._condition(clause.named_children[0])):
                        return self._into(clause.named_children[1], out)
            elif other.type == "else_clause":
                self._into(other.named_children[0], out)
        return None

    def _condition(self, node):
        return _collapsed(self._outputs(node))

    def _do_foreach_statement(self, node, out):
        name, source, block = node.named_children
        for item in self._outputs(source):
            self._set(_name(name), item)
            try:
                self._into(block, out)
            except _Continue:
                continue
            except _Break:
                break

    def _do_for_statement(self, node, out):
        start, condition, step, block = node.named_children
        self._into(start.named_children[0], out)
        while _true(self._condition(condition.named_children[0])):
            try:
                self._into(block, out)
            except _Continue:
                pass
            except _Break:
                break
            self._outputs(step.named_children[0])

    def _do_try_statement(self, node, out):
        block, *others = node.named_children
        clauses = {other.type: other for other in others}
        try:
            self._into(block, out)
        except Thrown as error:
            if "catch_clauses" not in clauses:
                raise
            previous = self._get("_")
            self._set("_", error)
            try:
                self._into(clauses["catch_clauses"].named_children[0].named_children[0], out)
            finally:
                self._set("_", previous)
        finally:
            if "finally_clause" in clauses:
                self._into(clauses["finally_clause"].named_children[0], out)

    def _do_switch_statement(self, node, out):
        condition, body = node.named_children
        asked = self._condition(condition.named_children[0])
        for clause in body.named_children[0].named_children:
            case, block = clause.named_children
            if case.text.decode().strip() == "default" or _text(self._value(case)).lower() == _text(asked).lower():
                return self._into(block, out)
        return None

    def _do_flow_control_statement(self, node, out):
        word = node.children[0].type
        values = self._outputs(node.named_children[0]) if node.named_children else []
        if word == "return":
            raise _Return(values)
        if word == "throw":
            raise Thrown(_text(_collapsed(values))) if values else self._get("_")
        raise {"break": _Break, "continue": _Continue}[word]

    def _do_function_statement(self, node, out):
        parts = {child.type: child for child in node.named_children}
        parameters = re.findall(r"\$(\w+)", parts["function_parameter_declaration"].text.decode())
        name = parts["function_name"].text.decode().lower()
        self._functions[name] = _Block(parts["script_block"], parameters)

    # --- commands

    def _command(self, node, inputs):
        if node.named_children[0].type == "command_invokation_operator":
            block = self._value(node.named_children[1])
            return self._call(block)
        name = node.named_children[0].text.decode()
        elements = node.named_children[1].named_children if len(node.named_children) > 1 else []
        if name == "az":
            return self._az(elements)
        positional, named = self._arguments(elements)
        if name.lower() in self._functions:
            assert not named, name
            return self._call(self._functions[name.lower()], positional)
        found = self._commands.get(name.lower())
        assert found is not None, f"{name} is not among the commands of this test"
        return self._unrolled(list(found(inputs, positional, named) or []))

    def _arguments(self, elements):
        positional, named, waiting = [], {}, ""
        for element in elements:
            text = element.text.decode()
            if element.type == "command_argument_sep":
                continue
            if element.type == "command_parameter":
                waiting = text[1:].lower()
                named[waiting] = True
            elif text.startswith("@") and re.fullmatch(r"@\w+", text):
                named.update({key.lower(): value for key, value in self._get(text[1:]).items()})
            else:
                value = text if element.type == "generic_token" else self._value(element)
                if waiting:
                    named[waiting], waiting = value, ""
                else:
                    positional.append(value)
        return positional, named

    def _az(self, elements):
        words = []
        for element in elements:
            if element.type in ("command_parameter", "generic_token"):
                words.append(element.text.decode())
            elif element.type != "command_argument_sep":
                words += [_text(item) for item in self._unrolled(self._value(element))]
        done = subprocess.run(
            ["az", *words], env=self._environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        self.az_calls.append(words)
        self._scopes[0]["lastexitcode"] = done.returncode
        self.printed += done.stderr.splitlines()
        return done.stdout.splitlines()

    def _own_commands(self):
        def where(inputs, positional, named):
            return [item for item in inputs if _true(_collapsed(self._call(positional[0], item=item)))]

        def for_each(inputs, positional, named):
            return [output for item in inputs for output in self._call(positional[0], item=item)]

        def write_host(inputs, positional, named):
            self.printed += "\n".join(map(_text, positional or inputs)).splitlines() or [""]

        def sort(inputs, positional, named):
            assert named == {"unique": True}
            return sorted({_text(item).lower(): item for item in inputs}.values(), key=lambda item: _text(item).lower())

        def set_content(inputs, positional, named):
            with open(named["path"], "w", encoding="utf-8") as file:
                file.write("\n".join(map(_text, inputs or [named["value"]])) + "\n")

        def sleep(inputs, positional, named):
            self.slept += int(named["seconds"])

        def to_json(inputs, positional, named):
            assert int(named["depth"]) >= 4
            return [json.dumps(named["inputobject"])]

        def remove_item(inputs, positional, named):
            os.unlink(named["path"])

        return {
            "where-object": where,
            "foreach-object": for_each,
            "write-host": write_host,
            "sort-object": sort,
            "set-content": set_content,
            "start-sleep": sleep,
            "convertto-json": to_json,
            "remove-item": remove_item,
            "out-null": lambda inputs, positional, named: [],
            "out-string": lambda inputs, positional, named: ["\n".join(map(_text, inputs))],
            "format-table": lambda inputs, positional, named: [
                "  ".join(_text(_member(item, name)) for name in positional[0]) for item in inputs
            ],
            "get-command": lambda inputs, positional, named: ["az"],
        }

    # --- expressions

    def _unrolled(self, value):
        if isinstance(value, list):
            return value
        return [] if value is None else [value]

    def _value(self, node):
        node = _inner(node)
        return getattr(self, f"_eval_{node.type}")(node)

    def _eval_variable(self, node):
        return self._get(_name(node))

    def _eval_verbatim_string_characters(self, node):
        return re.sub("(['\u2018-\u201b])['\u2018-\u201b]", r"\1", node.text.decode()[1:-1])

    def _eval_expandable_string_literal(self, node):
        source, said, at = node.text, "", 1
        for child in node.named_children:
            said += _unescaped(source[at : child.start_byte - node.start_byte].decode())
            if child.type == "sub_expression":
                said += " ".join(map(_text, self._outputs(child.named_children[0])))
            else:
                said += _text(self._get(_name(child)))
            at = child.end_byte - node.start_byte
        return said + _unescaped(source[at:-1].decode())

    def _eval_decimal_integer_literal(self, node):
        return int(node.text)

    def _eval_array_expression(self, node):
        return [output for child in node.named_children for output in self._outputs(child)]

    def _eval_array_literal_expression(self, node):
        return [self._value(child) for child in node.named_children]

    def _eval_parenthesized_expression(self, node):
        return _collapsed(self._outputs(node.named_children[0]))

    def _eval_hash_literal_expression(self, node):
        entries = node.named_children[0].named_children if node.named_children else []
        table = _Table()
        for entry in entries:
            key, source = entry.named_children
            key = _inner(key)
            name = key.text.decode() if key.type == "simple_name" else _text(self._value(key))
            table[name] = self._assigned(source)
        return table

    def _eval_script_block_expression(self, node):
        return _Block(node.named_children[0])

    def _eval_post_increment_expression(self, node):
        self._set(_name(node.named_children[0]), self._value(node.named_children[0]) + 1)

    def _eval_expression_with_unary_operator(self, node):
        inner = node.named_children[-1]
        if node.children[0].text.decode().lower() == "-not":
            return not _true(self._value(inner))
        raise AssertionError(node.text)

    def _eval_cast_expression(self, node):
        kind, value = node.named_children[0].text.decode(), self._value(node.named_children[1])
        return {"[long]": int, "[version]": version}[kind](value)

    def _eval_element_access(self, node):
        holder, index = (self._value(child) for child in node.named_children)
        if isinstance(holder, dict):
            return holder.get(index)
        return holder[index] if holder is not None and -len(holder) <= index < len(holder) else None

    def _eval_member_access(self, node):
        holder, name = node.named_children
        if node.text == b"[long]::MaxValue":
            return 2**63 - 1
        name = _inner(name)
        name = _text(self._value(name)) if name.type == "variable" else name.text.decode()
        return _member(self._value(holder), name)

    def _eval_invokation_expression(self, node):
        holder, name, arguments = node.named_children
        values = [
            self._value(child) for some in arguments.named_children for child in some.named_children if child.is_named
        ]
        name = name.text.decode()
        if holder.type == "type_literal":
            return {
                "[uri]EscapeDataString": lambda: quote(values[0], safe=""),
                "[System.IO.Path]GetTempFileName": lambda: tempfile.mkstemp()[1],
                "[System.Collections.Generic.List[string]]new": list,
            }[holder.text.decode() + name]()
        holder = self._value(holder)
        return {
            "Replace": lambda: holder.replace(*values),
            "Split": lambda: holder.split(*values),
            "TrimEnd": lambda: holder.rstrip(*values),
            "Add": lambda: holder.append(*values),
        }[name]()

    def _eval_logical_expression(self, node):
        left, right = node.named_children
        operator = node.children[1].text.decode().lower()
        if operator == "-and":
            return _true(self._value(left)) and _true(self._value(right))
        assert operator == "-or"
        return _true(self._value(left)) or _true(self._value(right))

    def _eval_comparison_expression(self, node):
        left, operator, right = node.named_children
        left, right = self._value(left), self._value(right)
        operator = operator.text.decode().lower()
        if operator == "-join":
            return right.join(map(_text, self._unrolled(left)))
        if operator == "-split":
            return re.split(right, _text(left))
        if operator == "-replace":
            pattern, new = right if isinstance(right, list) else (right, "")
            return re.sub(pattern, new, _text(left), flags=re.IGNORECASE)
        if operator == "-in":
            return any(self._compare("-eq", left, item) for item in self._unrolled(right))
        if isinstance(left, list):
            return [item for item in left if self._compare(operator, item, right)]
        return self._compare(operator, left, right)

    def _compare(self, operator, left, right):
        if operator in ("-match", "-notmatch"):
            match = re.search(right, _text(left), re.IGNORECASE)
            if match and operator == "-match":
                self._set("Matches", dict(enumerate(match.groups(), 1)))
            return bool(match) == (operator == "-match")
        if operator == "-like":
            pattern = "".join(".*" if character == "*" else re.escape(character) for character in right)
            return re.fullmatch(pattern, _text(left), re.IGNORECASE) is not None
        if not isinstance(left, (int, float, tuple)):
            left, right = (None if value is None else _text(value).lower() for value in (left, right))
        return {
            "-eq": lambda: left == right,
            "-ne": lambda: left != right,
            "-gt": lambda: left > right,
            "-lt": lambda: left < right,
            "-ge": lambda: left >= right,
            "-le": lambda: left <= right,
        }[operator]()

    def _eval_additive_expression(self, node):
        assert node.children[1].text == b"+"
        return _added(*(self._value(child) for child in node.named_children))

    def _eval_multiplicative_expression(self, node):
        assert node.children[1].text == b"*"
        left, right = (self._value(child) for child in node.named_children)
        return left * right

    def _eval_format_expression(self, node):
        form, _, values = node.named_children
        form, values = self._value(form), self._value(values)
        form = re.sub(r"\{(\d+),-(\d+)\}", r"{\1:<\2}", form)
        return form.format(*map(_text, self._unrolled(values)))


def version(text):
    """As [version] compares it."""
    return tuple(map(int, text.split(".")))


def _without_comments(node, text):
    if node.type == "comment":
        return text[: node.start_byte] + b" " * (node.end_byte - node.start_byte) + text[node.end_byte :]
    for child in node.children:
        text = _without_comments(child, text)
    return text


def _inner(node):
    """Below the rungs of the grammar that say nothing."""
    while node.child_count == 1 and node.named_child_count == 1 and node.type not in ("variable", "statement_list"):
        if node.type == "expandable_string_literal":
            break
        node = node.named_children[0]
    return node


def _name(node):
    return re.sub(r"[${}@]", "", node.text.decode())


def _text(value):
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


def _true(value):
    if isinstance(value, list):
        return len(value) > 1 or (len(value) == 1 and _true(value[0]))
    return isinstance(value, dict) or bool(value)


def _collapsed(outputs):
    """What a variable gets of a command's outputs: nothing, the only one, or an array."""
    return None if not outputs else outputs[0] if len(outputs) == 1 else outputs


def _added(left, right):
    if isinstance(left, list):
        return left + (right if isinstance(right, list) else [right])
    return left + right if isinstance(left, int) else _text(left) + _text(right)


def _member(holder, name):
    if name.lower() == "count":
        return len(holder) if isinstance(holder, (list, _Table)) else 0 if holder is None else 1
    if not isinstance(holder, dict):
        return None
    return {key.lower(): value for key, value in holder.items()}.get(name.lower())


def _unescaped(text):
    return re.sub("`(.)", lambda found: {"t": "\t", "n": "\n"}.get(found.group(1), found.group(1)), text)
