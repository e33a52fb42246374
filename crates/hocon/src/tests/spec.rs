//! The rules of HOCON's specification, each with a file and its expected result. The results are
//! derived from the text of the specification (lightbend/config, HOCON.md), whose headings the
//! groups are named after.

use super::*;

/// A value as tests write it: JSON in which all scalars are texts.
fn json(value: &Kind) -> serde_json::Value {
    match value {
        Kind::Null => serde_json::Value::Null,
        Kind::Text(text) => text.clone().into(),
        Kind::Array(elements) => elements.iter().map(|element| json(&element.kind)).collect(),
        Kind::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), json(&value.kind))).collect()
        }
    }
}

fn check(cases: &[(&str, serde_json::Value)]) {
    for (text, expected) in cases {
        let memory = Memory {
            env: HashMap::from([("HOME", "/home/jvb"), ("PATH", "/bin"), ("a", "from env")]),
            ..Memory::default()
        };
        let read = load_with(text, memory).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(json(&Kind::Object(read.root)), *expected, "{text:?}");
    }
}

macro_rules! cases {
    ($($text:literal => $json:tt),* $(,)?) => {
        check(&[$(($text, serde_json::json!($json))),*])
    };
}

#[test]
fn comments_and_omitted_root_braces() {
    cases! {
        "" => {},
        "# only a comment" => {},
        "// one\n# two\na = 1 // three\nb = 2 # four\n" => {"a": "1", "b": "2"},
        "a = \"// in quotes # stays\"" => {"a": "// in quotes # stays"},
        "{ a = 1 }" => {"a": "1"},
        "a = 1\n// the end" => {"a": "1"},
        "a = [ # first\n 1 // one\n, 2\n]" => {"a": ["1", "2"]},
    }
}

#[test]
fn key_value_separators_and_commas() {
    cases! {
        "a : 1\nb = 2\nc { d : 3 }" => {"a": "1", "b": "2", "c": {"d": "3"}},
        "a = 1, b = 2," => {"a": "1", "b": "2"},
        "a = [1, 2,]\nb = [1\n2]\nc = [1,\n2\n,]" => {"a": ["1", "2"], "b": ["1", "2"], "c": ["1", "2"]},
        "{ a = 1\n, b = 2 }" => {"a": "1", "b": "2"},
        "a =\n  1\nb = \n { c = 1 }" => {"a": "1", "b": {"c": "1"}},
        "a {} \n b = []" => {"a": {}, "b": []},
    }
    for wrong in
        ["a = [1,,2]", "a = [,1]", "a = [,]", "{a = 1,, b = 2}", "{, a = 1}", "{,}", "a = 1 b = 2"]
    {
        // `1 b` is one value; then there is a second `=`.
        assert!(load_with(wrong, Memory::default()).is_err(), "{wrong:?}");
    }
}

#[test]
fn duplicate_keys_and_object_merging() {
    cases! {
        "a = 1\na = 2" => {"a": "2"},
        "foo { a = 42 }\nfoo { b = 43 }" => {"foo": {"a": "42", "b": "43"}},
        "foo { a = 42 }\nfoo = null\nfoo { b = 43 }" => {"foo": {"b": "43"}},
        "foo { a = 42 }\nfoo = 1\nfoo { b = 43 }" => {"foo": {"b": "43"}},
        "foo { a { x = 1 } }\nfoo { a { y = 2 }, b = 3 }" => {"foo": {"a": {"x": "1", "y": "2"}, "b": "3"}},
        "a = [1]\na = [2]" => {"a": ["2"]},
        "a = { b = 1 }\na.b = 2\na.c = 3" => {"a": {"b": "2", "c": "3"}},
    }
}

#[test]
fn unquoted_quoted_and_multi_line_strings() {
    cases! {
        "a = foo bar" => {"a": "foo bar"},
        "a =   foo   bar   \n" => {"a": "foo   bar"},
        "a = foo \"bar\" baz" => {"a": "foo bar baz"},
        "a = \"x\"\"y\"" => {"a": "xy"},
        "a = true foo\nb = 1 min\nc = null x" => {"a": "true foo", "b": "1 min", "c": "null x"},
        "a = 1.0 abc" => {"a": "1.0 abc"},
        "a = 10.0foo" => {"a": "10.0foo"},
        "a = -x(y)%~';|<>/z" => {"a": "-x(y)%~';|<>/z"},
        "a = a/b/c" => {"a": "a/b/c"},
        "a = \"\"\"x \"y\" \\n\"\"\"" => {"a": "x \"y\" \\n"},
        "a = \"\"\"x\"\"\"\"\"" => {"a": "x\"\""},
        "a = \"\"\"\"\"\"" => {"a": ""},
        "a = \"\"" => {"a": ""},
        "a = \"tab\\there\\/\"" => {"a": "tab\there/"},
        "a = null\nb = \"null\"" => {"a": null, "b": "null"},
        "a = x\u{a0}y\u{a0}" => {"a": "x\u{a0}y"},
    }
}

#[test]
fn path_expressions_and_paths_as_keys() {
    cases! {
        "foo.bar = 42" => {"foo": {"bar": "42"}},
        "foo.bar.baz : 1\nfoo.bar.qux : 2" => {"foo": {"bar": {"baz": "1", "qux": "2"}}},
        "a b c = 42" => {"a b c": "42"},
        "\"a.b\".c = 1" => {"a.b": {"c": "1"}},
        "10.0foo = 1" => {"10": {"0foo": "1"}},
        "foo10.0 = 1" => {"foo10": {"0": "1"}},
        "true = 1\n3.14 = 2" => {"true": "1", "3": {"14": "2"}},
        "\"\" = 1" => {"": "1"},
        "a.\"\".b = 1" => {"a": {"": {"b": "1"}}},
        "a . b = 1" => {"a ": {" b": "1"}},
        "include.x = 1" => {"include": {"x": "1"}},
        "a = include\nb = [include]" => {"a": "include", "b": ["include"]},
    }
    for wrong in ["a..b = 1", ".a = 1", "a. = 1", "= 1", "${a} = 1"] {
        assert!(load_with(wrong, Memory::default()).is_err(), "{wrong:?}");
    }
}

#[test]
fn concatenation_of_lists_and_objects() {
    cases! {
        "a = [1, 2] [3, 4]" => {"a": ["1", "2", "3", "4"]},
        "a = { b = 1 } { c = 2 }" => {"a": {"b": "1", "c": "2"}},
        "a = { b = 1 } { b = 2 }" => {"a": {"b": "2"}},
        "base = { x = 1 }\na = ${base} { y = 2 }" => {"base": {"x": "1"}, "a": {"x": "1", "y": "2"}},
        "east { name = east }\nd = ${east} { name = mine }" =>
            {"east": {"name": "east"}, "d": {"name": "mine"}},
        "p = [ /bin ]\np = ${p} [ /usr/bin ]" => {"p": ["/bin", "/usr/bin"]},
        "p = [ /bin ]\np = ${p} ${p}" => {"p": ["/bin", "/bin"]},
        "p += a\np += b" => {"p": ["a", "b"]},
        "p = []\np += { x = 1 }" => {"p": [{"x": "1"}]},
        "a.b += 1\na { b += 2 }" => {"a": {"b": ["1", "2"]}},
        "a = [ 1 2, [3] [4] ]" => {"a": ["1 2", ["3", "4"]]},
        "a = ${?none} [1]\nb = [1] ${?none}\nc = ${?none} x" => {"a": ["1"], "b": ["1"], "c": "x"},
    }
    for wrong in ["a = [1] 2", "a = {x=1} 2", "a = [1] {x=1}", "a = 1\na += 2"] {
        assert!(load_with(wrong, Memory::default()).is_err(), "{wrong:?}");
    }
}

#[test]
fn substitutions_of_the_specification() {
    cases! {
        "a = ${HOME}/x" => {"a": "/home/jvb/x"},
        "a = 1\nb = ${a}" => {"a": "1", "b": "1"},
        "b = ${a}\na = 1" => {"a": "1", "b": "1"},
        // A value in the file wins over the environment.
        "a { x = 1 }\nb = ${a.x}" => {"a": {"x": "1"}, "b": "1"},
        "a = null\nb = ${?a}" => {"a": null, "b": null},
        "a = ${?none}" => {},
        "a = [ ${?none}, 1 ]" => {"a": ["1"]},
        "a { b = ${?none} }" => {"a": {}},
        "a = 5\na = ${?none}" => {"a": "5"},
        "a = x${?none}y" => {"a": "xy"},
        "a = ${?none} ${?none}" => {},
        "k = ${\"x.y\"}\n\"x.y\" = 3" => {"k": "3", "x.y": "3"},
        "bar : { foo : 42, baz : ${bar.foo} }\nbar : { foo : 43 }" => {"bar": {"foo": "43", "baz": "43"}},
        "a : { b : 1 }\na : { c : ${a.b} }" => {"a": {"b": "1", "c": "1"}},
        "a = ${x}\nx = { y = 1 }\na = { z = 2 }" => {"a": {"y": "1", "z": "2"}, "x": {"y": "1"}},
        "a = { z = 2 }\na = ${x}\nx = 5" => {"a": "5", "x": "5"},
    }
    for wrong in ["a = ${none}", "a = ${?a", "a = ${ }", "a = ${a..b}"] {
        assert!(load_with(wrong, Memory::default()).is_err(), "{wrong:?}");
    }
}

#[test]
fn substitutions_that_refer_to_themselves() {
    cases! {
        "path = \"a:b\"\npath = ${path}\":c\"" => {"path": "a:b:c"},
        "path = ${PATH}\"/x\"" => {"path": "/bin/x"},
        "a = ${?a}foo" => {"a": "from envfoo"},
        "b = ${?b}foo" => {"b": "foo"},
        "foo : { a : { c : 1 } }\nfoo : ${foo.a}\nfoo : { a : 2 }" => {"foo": {"a": "2", "c": "1"}},
        "bar : { a : ${foo.d}, b : 1 }\nbar.b = 3\nfoo : { c : ${bar.b}, d : 2 }\nfoo.d = 4" =>
            {"bar": {"a": "4", "b": "3"}, "foo": {"c": "3", "d": "4"}},
        "x : 1\ny : ${x}\nx : 2" => {"x": "2", "y": "2"},
    }
    for wrong in ["b = ${b}", "b = ${c}\nc = ${b}", "b = { x = ${b.x} }"] {
        assert!(load_with(wrong, Memory::default()).is_err(), "{wrong:?}");
    }
}

#[test]
fn includes_are_relative_and_their_substitutions_too() {
    let memory = || Memory {
        files: HashMap::from([
            ("conf.d/one.conf", "x = 10\ny = ${x}\nenv = ${HOME}\ninclude \"two\"\n".to_owned()),
            ("conf.d/two.conf", "{ z = ${x}, list += 1 }".to_owned()),
        ]),
        env: HashMap::from([("HOME", "/home/jvb")]),
    };
    let outer = "a { include \"conf.d/one.conf\" }\na { x = 42 }\na.list += 2\n";
    let read = load_with(outer, memory()).unwrap();
    let expected = serde_json::json!({"a": {
        "x": "42", "y": "42", "z": "42", "env": "/home/jvb", "list": ["1", "2"]
    }});
    assert_eq!(json(&Kind::Object(read.root)), expected);
    // In the middle of a file, later values win.
    let read = load_with("x = 1\ninclude \"conf.d/one\"\ny = 2\n", memory()).unwrap();
    assert_eq!((text(&read, "x"), text(&read, "y")), ("10".to_owned(), "2".to_owned()));
    for line in [
        "include required( file( \"conf.d/one.conf\" ) )",
        "include required(file(\"conf.d/one.conf\"))",
        "include   file( \"conf.d/one\" )",
    ] {
        let read = load_with(line, memory()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(text(&read, "x"), "10", "{line}");
    }
    let read = load_with("a = 1\ninclude classpath(\"reference.conf\")\nb = 2", memory()).unwrap();
    assert_eq!((text(&read, "a"), text(&read, "b")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(read.class_paths[0].0, "reference.conf");
    assert_eq!(read.class_paths[0].1.to_string(), "a.conf:2");
    let refused = load_with("\ninclude url(\"http://example.com/x\")", memory()).unwrap_err();
    let says =
        "a.conf:2: nothing is fetched from the network: save the file here, and include that";
    assert_eq!(refused.to_string(), says);
    assert!(load_with("include required(\"gone\")", memory()).is_err());
    assert!(load_with("include required(classpath(\"gone\"))", memory()).is_ok());
    assert!(load_with("include \"${HOME}/x\"", memory()).unwrap().missing_includes.len() == 1);
    assert!(load_with("include conf.d/one", memory()).is_err());
}

#[test]
fn values_may_lie_over_a_reference() {
    let memory = Memory::default();
    let over = |file: &str| {
        let mut memory = Memory::default();
        memory.files.insert("a.conf", file.to_owned());
        let reference = "list = [ a ]\nt = 1 s\ncopy = ${?t}\no { x = 1, y = 2 }\n";
        Document::load(reference, Some(Path::new("a.conf")), &memory).unwrap()
    };
    let read = over("list += b\nt = 2 s\nmine = ${o.x}\no.x = 3\n");
    assert_eq!(text(&read, "list"), "a|b");
    assert_eq!((text(&read, "copy"), text(&read, "mine")), ("2 s".to_owned(), "3".to_owned()));
    assert_eq!(origin(&read, "list"), "a.conf:1");
    assert_eq!((origin(&read, "copy"), origin(&read, "o.y")), ("default".into(), "default".into()));
    let read = over("o = 1");
    assert_eq!(text(&read, "o"), "1");
    let alone = Document::load("a = 1", None, &memory).unwrap();
    assert_eq!(alone.get("a").unwrap().origin, Origin::Default);
}

#[test]
fn a_huge_file_ends_in_one_line() {
    let long = format!("a = [{}]", "1,".repeat(600_000));
    assert_eq!(fails(&long), "a.conf:1: the file is larger than 1 MiB");
    let mut many = String::new();
    for i in 0..30_000 {
        writeln!(many, "k{i}.a.b.c = ${{?none}} x").unwrap();
    }
    let _ = load_with(&many, Memory::default());
    let unclosed = "a = \"\"\"".to_owned() + &"\n".repeat(100_000);
    assert!(fails(&unclosed).contains("is not closed"));
}

/// A document of objects, lists and texts that both JSON and HOCON can express.
fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = "[a-zA-Z0-9 .:=,#$\\\\\"{}\\[\\]]{0,8}".prop_map(serde_json::Value::from);
    let tree = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z.]{0,4}", inner, 0..5)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    });
    prop::collection::btree_map("[a-z]{1,4}", tree, 0..5).prop_map(|f| f.into_iter().collect())
}

proptest! {
    #[test]
    fn json_is_read_as_json(document in documents()) {
        let read = load_with(&serde_json::to_string_pretty(&document).unwrap(), Memory::default());
        prop_assert_eq!(json(&Kind::Object(read.unwrap().root)), document);
    }

    #[test]
    fn what_is_written_twice_is_what_is_written_last(document in documents(), other in documents()) {
        let text = format!("root = {document}\nroot = null\nroot = {other}\n");
        let read = load_with(&text, Memory::default()).unwrap();
        prop_assert_eq!(json(&read.get("root").unwrap().kind), other);
    }

    #[test]
    fn a_substitution_is_what_it_names(document in documents()) {
        let text = format!("copy = ${{root}}\nroot = {document}\n");
        let read = load_with(&text, Memory::default()).unwrap();
        prop_assert_eq!(json(&read.get("copy").unwrap().kind), document);
    }

    #[test]
    fn braces_or_dots_make_no_difference(names in prop::collection::vec("[a-z]{1,5}", 1..8), value in "[a-z]{1,5}") {
        let dotted = load(&format!("{} = {value}", names.join(".")));
        let braces = format!("{} = {value}{}", names.join(" { "), " }".repeat(names.len() - 1));
        prop_assert_eq!(json(&Kind::Object(dotted.root)), json(&Kind::Object(load(&braces).root)));
    }
}
