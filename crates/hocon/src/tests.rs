mod spec;

use std::{collections::HashMap, fmt::Write as _, io, path::Path};

use proptest::prelude::*;

use super::*;

/// Files and environment of a test.
#[derive(Default)]
struct Memory {
    files: HashMap<&'static str, String>,
    env: HashMap<&'static str, &'static str>,
}

impl Source for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        let name = path.to_str().unwrap_or_default();
        self.files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|value| (*value).to_owned())
    }
}

fn load_with(text: &str, mut memory: Memory) -> Result<Document, HoconError> {
    memory.files.insert("a.conf", text.to_owned());
    Document::load("", Some(Path::new("a.conf")), &memory)
}

fn load(text: &str) -> Document {
    load_with(text, Memory::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn fails(text: &str) -> String {
    load_with(text, Memory::default()).expect_err(text).to_string()
}

fn text(document: &Document, key: &str) -> String {
    match &document.get(key).unwrap_or_else(|| panic!("no {key}")).kind {
        Kind::Text(text) => text.clone(),
        Kind::Array(elements) => elements
            .iter()
            .map(|element| match &element.kind {
                Kind::Text(text) => text.clone(),
                other => format!("{other:?}"),
            })
            .collect::<Vec<_>>()
            .join("|"),
        other => format!("{other:?}"),
    }
}

fn origin(document: &Document, key: &str) -> String {
    document.get(key).unwrap().origin.to_string()
}

#[test]
fn the_ways_to_write_a_key() {
    let d = load(
        "a { b = 1, c : two words  \n}\na.d = 3 // end\n a.\"e.f\" {g:4}\n x y = 5\n\"q\"\n{r=6}\n",
    );
    assert_eq!(text(&d, "a.b"), "1");
    assert_eq!(text(&d, "a.c"), "two words");
    assert_eq!(text(&d, "a.d"), "3");
    assert_eq!(text(&d, "x y"), "5");
    assert_eq!(text(&d, "q.r"), "6");
    assert_eq!(origin(&d, "a.c"), "a.conf:1");
    assert_eq!(origin(&d, "a.d"), "a.conf:3");
    let Kind::Object(a) = &d.get("a").unwrap().kind else { panic!() };
    assert!(a.contains_key("e.f"));
}

#[test]
fn braces_around_the_root_crlf_and_comments() {
    let d = load("\u{feff}# c\r\n{\r\n a = x # y\r\n b = \"#\"\r\n}\r\n");
    assert_eq!(text(&d, "a"), "x");
    assert_eq!(text(&d, "b"), "#");
    assert_eq!(origin(&d, "b"), "a.conf:4");
}

#[test]
fn lists() {
    let d = load("a = [ 1, \"two\" ,\n three four\n five, ]\na += six\nb += x\nc = [1] [2]\n");
    assert_eq!(text(&d, "a"), "1|two|three four|five|six");
    assert_eq!(text(&d, "b"), "x");
    assert_eq!(text(&d, "c"), "1|2");
}

#[test]
fn quoted_text() {
    let d = load("a = \"x\\n\\u00e9\\ud83d\\ude00\\\\\"\nb = \"\"\"raw \"q\"\n2\"\"\"\"\nc = 1\n");
    assert_eq!(text(&d, "a"), "x\n\u{e9}\u{1f600}\\");
    assert_eq!(text(&d, "b"), "raw \"q\"\n2\"");
    assert_eq!(origin(&d, "c"), "a.conf:4");
}

#[test]
fn later_values_win_and_objects_merge() {
    let d = load(
        "a { x = 1, y = 1 }\na { y = 2 }\nb = 1\nb { c = 1 }\nd { e = 1 }\nd = 5\nd { f = 1 }\nn = 1\nn = null\n",
    );
    assert_eq!((text(&d, "a.x"), text(&d, "a.y")), ("1".into(), "2".into()));
    assert_eq!(text(&d, "b.c"), "1");
    assert!(d.get("d.e").is_none());
    assert_eq!(text(&d, "d.f"), "1");
    assert_eq!(d.get("n").unwrap().kind, Kind::Null);
}

#[test]
fn substitutions() {
    let env = HashMap::from([("PORT", "4443"), ("EMPTY", "")]);
    let d = load_with(
        "a { t = 1 minute, i = ${a.t} }\na.t = 2 minutes\np = 10000\np = ${?PORT}\n\
         q = 7\nq = ${?NOTHING}\nr = ${PORT}0 x\ns = [1]\ns = ${s} [2]\n\
         base { x = 1, y = 2 }\nd = ${base} { y = 3 }\nd.x = ${d.x}9\nu = ${?NOTHING}\ne=${EMPTY}\n",
        Memory { env, ..Memory::default() },
    )
    .unwrap();
    assert_eq!(text(&d, "a.i"), "2 minutes");
    assert_eq!(text(&d, "p"), "4443");
    assert_eq!(origin(&d, "p"), "environment PORT, a.conf:4");
    assert_eq!((text(&d, "q"), origin(&d, "q")), ("7".into(), "a.conf:5".into()));
    assert_eq!(text(&d, "r"), "44430 x");
    assert_eq!(text(&d, "s"), "1|2");
    assert_eq!((text(&d, "d.y"), text(&d, "d.x")), ("3".into(), "19".into()));
    assert!(d.get("u").is_none());
    assert_eq!(text(&d, "e"), "");
}

#[test]
fn a_key_may_refer_to_its_neighbours_while_it_is_being_built() {
    let d = load("base { z = 0 }\na = ${base} { b = ${a.c}, c = 5, e = ${a.z} }\n");
    assert_eq!((text(&d, "a.b"), text(&d, "a.e")), ("5".into(), "0".into()));
}

#[test]
fn includes() {
    let memory = || Memory {
        files: HashMap::from([
            ("sub/x.conf", "x = 1\ny = ${x}\ninclude \"deeper.conf\"\n".to_owned()),
            ("sub/deeper.conf", "z = 1\n".to_owned()),
            ("json.json", "{\"j\": 1}".to_owned()),
            ("loop.conf", "include \"loop\"".to_owned()),
        ]),
        ..Memory::default()
    };
    let d = load_with(
        "x = 0\ninclude \"custom-jvb.conf\"\na {\n include \"sub/x.conf\"\n z = 2 }\n\
         include file(\"json\")\ninclude required(file(\"sub/deeper.conf\"))\ninclude = 3\n",
        memory(),
    )
    .unwrap();
    assert_eq!((text(&d, "a.x"), text(&d, "a.y")), ("1".into(), "1".into()));
    assert_eq!(
        (text(&d, "a.z"), text(&d, "z"), text(&d, "j")),
        ("2".into(), "1".into(), "1".into())
    );
    assert_eq!(text(&d, "include"), "3");
    assert_eq!(origin(&d, "z"), "sub/deeper.conf:1");
    assert_eq!(d.missing_includes.len(), 1);
    assert_eq!(d.missing_includes[0].1.to_string(), "a.conf:2");

    let error = load_with("\ninclude required(\"gone\")", memory()).unwrap_err().to_string();
    assert_eq!(error, "a.conf:2: the included file gone does not exist");
    assert!(load_with("include \"loop\"", memory()).unwrap_err().to_string().contains("itself"));
    assert!(load_with("include url(\"http://x/\")", memory()).is_err());
    assert!(load_with("include file(\"json\"", memory()).is_err());
}

#[test]
fn a_missing_comma_is_told_as_such() {
    for (text, word, line, key) in [
        ("a { b = 1 c = 2 }", "c", 1, "b"),
        ("a = 1 b = 2", "b", 1, "a"),
        ("a = \"x\" \"b\": 2", "b", 1, "a"),
        ("a = \"x\"b = 2", "b", 1, "a"),
        ("{ \"a\": {\n\"b\": [1, 2] \"c\": 3 } }", "c", 2, "b"),
        ("a = ${?x} b += 2", "b", 1, "a"),
        ("a = two words b: 3", "b", 1, "a"),
        ("s {\n private { port = 1 } public { port = 2 }\n}", "public", 2, "private"),
        ("s {\n private {\n port = 1\n } public { port = 2 }\n}", "public", 4, "private"),
        ("port = 1 public { host = x }", "public", 1, "port"),
        ("a {} b.c = 1", "b.c", 1, "a"),
        ("a = [1] b = [2]", "b", 1, "a"),
        ("a = 5 b [2]", "b", 1, "a"),
    ] {
        let told = format!(
            "a.conf:{line}: a ',' or a new line is missing before '{word}' after the value of '{key}'"
        );
        let error = fails(text);
        assert!(error.starts_with(&told), "{text}: {error}");
    }
    let element = fails("a = [ { b = 1 } c { d = 1 } ]");
    assert!(
        element.starts_with("a.conf:1: a ',' or a new line is missing before 'c' ("),
        "{element}"
    );
    assert_eq!(fails(&format!("a = 1 {}\u{7} = 2", "b".repeat(1000))).lines().count(), 1);
}

#[test]
fn mistakes_name_their_line() {
    for (text, message) in [
        ("a = 1\nb {\n c = 1\n", "a.conf:2: this '{' is never closed: add a '}'"),
        ("a = [1,\n 2", "a.conf:1: this '[' is never closed: add a ']'"),
        ("a = 1\n}\n", "a.conf:2: this '}' closes nothing: remove it"),
        ("a = 1 }", "a.conf:1: this '}' closes nothing: remove it"),
        ("a = \"x\n", "a.conf:1: a quoted text has no closing '\"' on its line"),
        ("\na = me@example.com", "a.conf:2: '@' cannot stand here: put the text in double quotes"),
        (
            "a = http://x",
            "a.conf:1: ':' or '=' is not expected in the value of 'a': put the text in double quotes",
        ),
        (
            "a = b=c",
            "a.conf:1: ':' or '=' is not expected in the value of 'a': put the text in double quotes",
        ),
        ("a", "a.conf:1: the end of the file is not expected after the key 'a'"),
        ("a =\n\n", "a.conf:3: 'a' has no value"),
        ("a..b = 1", "a.conf:1: a key has an empty part: check its dots"),
        ("a = [1,,2]", "a.conf:1: ',' is not expected where an element should be"),
        ("a = ${b", "a.conf:1: '${' has no '}' on its line"),
        ("a = ${}", "a.conf:1: '${}' does not name a key"),
        ("a = {b=1}{c=1} x", "a.conf:1: an object and a single value cannot be joined"),
        ("a = 1\na += 2", "a.conf:2: '+=' needs a list before it, not a single value"),
        ("[1]", "a.conf:1: a list cannot be a configuration"),
        (
            "\na = ${nope.x}",
            "a.conf:2: ${nope.x} is neither a key of the configuration nor an environment variable",
        ),
    ] {
        assert_eq!(fails(text), message, "{text}");
    }
    let gone = Document::load("", Some(Path::new("gone.conf")), &Memory::default()).unwrap_err();
    assert!(gone.to_string().starts_with("cannot read gone.conf: "));
}

#[test]
fn cycles_and_bombs_end() {
    fails("a = ${b}\nb = ${a}");
    fails("a = ${a}");
    fails("a { b = ${a} }");
    load("a = ${?b}\nb = ${?a}");
    let mut laughs = "a0 = haha\n".to_owned();
    for i in 1..40 {
        let before = i - 1;
        writeln!(laughs, "a{i} = [${{a{before}}}, ${{a{before}}}]").unwrap();
    }
    assert!(fails(&laughs).contains("larger than 1 MiB"));
    let mut chain = String::new();
    for i in 0..10_000 {
        writeln!(chain, "c{i} = ${{c{}}}", i + 1).unwrap();
    }
    assert!(fails(&chain).contains("lead from one to the next"));
    for deep in ["[".repeat(100_000), "{a=".repeat(100_000), "a.".repeat(100_000) + "b=1"] {
        assert!(fails(&format!("a = {deep}")).len() < 200);
        assert!(fails(&deep).len() < 200);
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        let _ = load_with(&text, Memory::default());
    }

    #[test]
    fn any_text_of_its_own_letters_is_answered(
        text in "([ab.,=:{}\\[\\]\"#\n $?]|include|\\$\\{\\??a\\}|\\+=|//|\"\"\"|null){0,60}"
    ) {
        let _ = load_with(&text, Memory::default());
    }

    #[test]
    fn what_json_can_say_is_read(value in "[a-zA-Z0-9 ]{0,12}", list in prop::collection::vec(0u32..1000, 0..8)) {
        let json = serde_json::json!({"outer": {"value": value, "list": list}}).to_string();
        let d = load(&json);
        prop_assert_eq!(text(&d, "outer.value"), value);
        let joined: Vec<String> = list.iter().map(u32::to_string).collect();
        prop_assert_eq!(text(&d, "outer.list"), joined.join("|"));
    }
}
