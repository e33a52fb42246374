//! What a stream brings, within its limits and beyond them.

use minidom::Element;
use proptest::prelude::*;

use super::STREAMS;
use crate::xmpp::{
    Fault, Limits, Stanza,
    cause::Cause,
    offline::{events, parse, run},
    wire::Event,
};

const STREAM: &str = "<?xml version='1.0'?>\
    <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'>\n \
    <first xmlns='a'><bind xmlns='b'/></first> <iq id='\u{e9}'>&lt;</iq> </stream:stream>";

/// What streams are made of, where `L` is something long.
const PARTS: &[&str] = &[
    "<a>",
    "</a>",
    "<a ",
    "/>",
    ">",
    "b='L'",
    " c=\"L\" ",
    " d='1' e='2'",
    " xmlns:n='u' ",
    "<n:a ",
    "xmlns='http://www.w3.org/XML/1998/namespace' ",
    " n:b=\"'\"",
    "L",
    "<![CDATA[L]]>",
    "<a b='L'>",
    "<a L='1'/>",
    "&lt;",
    "</a L>",
    "<a     >",
];

/// All stanzas of a stream, however it comes; why it ends.
fn read(text: &str) -> (Vec<Stanza>, Cause) {
    let limits = Limits { bytes: 20_000, ..Limits::default() };
    let at_once = run(events(text.as_bytes(), usize::MAX, limits));
    for piece in [1, 7, 1400] {
        let (pieces, end) = run(events(text.as_bytes(), piece, limits));
        assert_eq!(format!("{pieces:?}"), format!("{:?}", at_once.0), "by {piece}");
        assert_eq!(end == Cause::Closed, at_once.1 == Cause::Closed);
    }
    let stanza = |event| match event {
        Event::Stanza(stanza) => stanza,
        Event::Nonza(heard) => panic!("{heard:?}"),
    };
    (at_once.0.into_iter().map(stanza).collect(), at_once.1)
}

/// What a stanza is read as; the next one is read all the same.
fn one(stanza: &str) -> Stanza {
    let (stanzas, end) = read(&STREAM.replace("<iq", &format!("{stanza}<iq")));
    assert_eq!(end, Cause::Closed, "{stanza:.60}");
    let [_, one, Stanza::Whole(next)] = &stanzas[..] else { panic!("{stanzas:?}") };
    assert_eq!((next.attr("id"), next.text().as_str()), (Some("\u{e9}"), "<"));
    one.clone()
}

fn refused_stanza(stanza: &str) -> (Element, Fault) {
    match one(stanza) {
        Stanza::Refused { head, fault } => (head, fault),
        Stanza::Whole(element) => panic!("nothing is wrong with {:.100}", String::from(&element)),
    }
}

fn whole(stanza: &str) -> Element {
    match one(stanza) {
        Stanza::Whole(element) => element,
        Stanza::Refused { fault, .. } => panic!("{fault}: {stanza:.60}"),
    }
}

#[test]
fn a_stream_brings_its_children_and_its_end() {
    let (stanzas, end) = read(STREAM);
    let [Stanza::Whole(first), Stanza::Whole(iq)] = &stanzas[..] else { panic!("{stanzas:?}") };
    assert!(first.is("first", "a") && first.has_child("bind", "b"));
    assert_eq!((iq.attr("id"), iq.text().as_str()), (Some("\u{e9}"), "<"));
    assert_eq!(end, Cause::Closed);
}

#[test]
fn a_stanza_is_what_it_says() {
    let iq = whole("<iq id='a'><q xmlns='x' b='c'>d<e/></q></iq>");
    assert!(iq.is("iq", "jabber:client"));
    assert_eq!(iq.attr("id"), Some("a"));
    let query = iq.get_child("q", "x").unwrap();
    assert_eq!((query.attr("b"), query.text().as_str()), (Some("c"), "d"));
    assert!(query.has_child("e", "x"));
}

/// The library's parser ends the stream at 8,192 bytes, and an occupant of a room can make everybody in it
/// read what it writes.
#[test]
fn a_long_attribute_is_one_stanza_and_not_the_end() {
    let long = "x".repeat(8_000);
    assert_eq!(whole(&format!("<presence a='{long}'/>")).attr("a"), Some(&*long));
    // As the parser counts, not as they are written.
    let quotes = whole(&format!("<presence a='{}'/>", "&apos;".repeat(2_000)));
    assert_eq!(quotes.attr("a").map(str::len), Some(2_000));
    for value in ["x".repeat(8_001), "x".repeat(10_000), "\u{e9}".repeat(5_000)] {
        let (head, fault) =
            refused_stanza(&format!("<presence id='1' a='{value}' b='2'>t<c/></presence>"));
        assert_eq!(
            (head.attr("id"), head.attr("b"), fault),
            (Some("1"), None, Fault::ValueTooLong)
        );
    }
}

#[test]
fn a_tag_that_is_too_long_is_one_stanza_and_not_the_end() {
    let attributes: Vec<String> = (0..10_000).map(|n| format!("a{n}='>/'")).collect();
    let many = attributes.join(" ");
    let long = "\u{e9}/>&quot;&lt;".repeat(2000);
    for stanza in [
        format!("<presence id='1' {many}/>"),
        format!("<presence id='1' {many} >text<a/></presence>"),
        format!("<presence id='1'><a b='1' {many}><c/></a></presence>"),
        format!("<presence id='1' a=\"{long}\"/>"),
        format!("<presence id='1' a='{long}' b='2'>text</presence>"),
        format!("<presence id='1'><a{:50000}></a></presence>", ""),
        format!("<presence id='1'><a b{:50000}='1'/></presence>", ""),
        format!("<presence id='1'><a/></presence{:50000}>", ""),
    ] {
        assert_eq!(refused_stanza(&stanza).0.attr("id"), Some("1"), "{stanza:.60}");
    }
    assert_eq!(refused_stanza(&format!("<presence{:50000} id='1'/>", "")).0.attr("id"), None);
}

#[test]
fn too_much_of_anything_is_refused_and_named() {
    let attributes: Vec<String> = (0..1000).map(|n| format!("a{n}='1'")).collect();
    let attributes = attributes.join(" ");
    let iq = "<iq xmlns='jabber:client' id='a'><q xmlns='jabber:client'/></iq>";
    let iq: Element = iq.parse().unwrap();
    let (head, fault) = refused_stanza(&format!("<iq id='a'><q {attributes}/></iq>"));
    assert_eq!((&head, fault), (&iq, Fault::TooManyAttributes));
    let text = format!("<iq>{}</iq>", "<q/>".repeat(20_000));
    let many = parse(text.as_bytes(), "jabber:client", Limits::default()).unwrap();
    assert!(matches!(many, Stanza::Refused { fault: Fault::TooManyElements, .. }));
    let (head, fault) = refused_stanza(&format!("<iq id='a'><q>{}</q></iq>", "x".repeat(1 << 20)));
    assert_eq!((&head, fault), (&iq, Fault::TooLong));
    let (head, fault) = refused_stanza(&format!("<iq id='a' {attributes}/>"));
    assert_eq!((head.attr("id"), fault), (Some("a"), Fault::TooManyAttributes));
    // As many levels as Prosody lets pass in a stanza.
    let deep = format!("<q>{}{}</q>", "<d>".repeat(37_000), "</d>".repeat(37_000));
    let (head, fault) = refused_stanza(&format!("<iq id='a'>{deep}</iq>"));
    assert_eq!((&head, fault), (&iq, Fault::TooDeep));
}

/// The parser looks through all open elements for a namespace, and whoever drops an element tree does so by
/// recursion.
#[test]
fn what_is_deep_is_not_parsed() {
    let nested = format!("{}{}", "<d>".repeat(100_000), "</d>".repeat(100_000));
    for inside in [
        &nested,
        "<a/><b c='/>' d=\"</d>\"/><e> </e >",
        "<a\n/>text &lt;/d&gt;<f g='>'>x</f>",
        "<![CDATA[</d></d><d>]]]]><![CDATA[>]]>",
        "<undeclared:prefix></mismatched>",
    ] {
        let deep = format!("<iq id='1'>{}{inside}{}</iq>", "<d>".repeat(30), "</d>".repeat(30));
        let (head, fault) = refused_stanza(&deep);
        assert_eq!((head.attr("id"), fault), (Some("1"), Fault::TooDeep), "{inside:.40}");
    }
    let instruction = format!("<iq>{}<?a?>", "<d>".repeat(30));
    let (_, end) = read(&STREAM.replace("<iq", &format!("{instruction}<iq")));
    assert!(matches!(end, Cause::Protocol(_)), "{end}");
}

/// As Prosody writes `<a xml:b='1'/>` and `<xml:a/>`.
#[test]
fn the_namespace_of_xml_under_another_name_is_another() {
    let xml = "http://www.w3.org/XML/1998/namespace";
    for stanza in [
        format!("<presence xmlns:ns1='{xml}' ns1:other='1'/>"),
        format!("<presence xmlns:ns1 = \"{xml}\" xmlns:ns2='{xml}'><a xmlns='{xml}'/></presence>"),
    ] {
        assert!(whole(&stanza).children().all(|child| child.ns() == format!("{xml}#")));
    }
    let genuine =
        format!("<presence xmlns:xml='{xml}' xml:lang='{xml}' a='{xml}' xmlns_='{xml}'/>");
    let element = whole(&genuine);
    assert_eq!((element.attr("a"), element.attr("xmlns_")), (Some(xml), Some(xml)));
    let longer =
        whole(&format!("<presence><a xmlns='{xml}s'/><b xmlns='{}'/></presence>", &xml[1..]));
    let namespaces: Vec<String> = longer.children().map(Element::ns).collect();
    assert_eq!(namespaces, [format!("{xml}s"), xml[1..].to_owned()]);
}

#[test]
fn text_is_never_taken_for_a_tag_and_never_cut_in_a_character() {
    let data =
        |count| format!("<presence><![CDATA[{}]]></presence>", "<]]a'\u{e9}\"".repeat(count));
    assert_eq!(whole(&data(100)).text().len(), 800);
    assert_eq!(refused_stanza(&data(9_000)).1, Fault::TooLong);
    // Whatever the limit falls on.
    for before in 0..8 {
        for text in ["\u{1f4a5}", "&quot;", "x"] {
            let text = format!("{}{}", "y".repeat(before), text.repeat(20_000));
            let (head, fault) = refused_stanza(&format!("<presence id='1'>{text}</presence>"));
            assert_eq!((head.attr("id"), fault), (Some("1"), Fault::TooLong));
            refused_stanza(&format!("<presence><![CDATA[{text}]]></presence>"));
        }
    }
}

#[test]
fn only_a_name_can_be_too_long_for_the_stream() {
    let name = "a".repeat(50_000);
    for stanza in [format!("<{name}/>"), format!("<a {name}='1'/>"), format!("<a>&{name};</a>")] {
        let (stanzas, end) = read(&STREAM.replace("<iq", &format!("{stanza}<iq")));
        assert_eq!(stanzas.len(), 1);
        assert!(matches!(end, Cause::Protocol(_)), "{end}");
    }
}

#[test]
fn what_is_no_stream_is_an_error() {
    let open = format!("<s:stream xmlns='jabber:client' xmlns:s='{STREAMS}'>");
    for text in [
        "no<a/>".to_owned(),
        "<a></b>".to_owned(),
        "<!DOCTYPE a><a/>".to_owned(),
        "<html xmlns='http://www.w3.org/1999/xhtml'>".to_owned(),
        format!("{open}<a></b>"),
        format!("{open}<t:a/>"),
        format!("{open}<a xmlns='x'><!-- --></a>"),
        format!("{open}<a>&x;</a>"),
        format!("{open}text"),
    ] {
        let (stanzas, end) = read(&text);
        assert_eq!(stanzas, []);
        assert!(matches!(end, Cause::Protocol(_)), "{text}: {end}");
    }
    for text in ["", "<s:stream", &open, &format!("{open}<iq>")] {
        assert_eq!(read(text), (Vec::new(), Cause::Closed), "{text}");
    }
    // A component's server sends no version.
    let old = format!("<s:stream xmlns='jabber:client' xmlns:s='{STREAMS}' id='1'><a/></s:stream>");
    assert_eq!(read(&old).0.len(), 1);
}

#[test]
fn what_is_no_stanza_is_no_stanza() {
    for text in [
        "",
        "<iq",
        "<iq>",
        "<iq></q>",
        "<!DOCTYPE x><iq/>",
        "<iq/><iq/>",
        "</s:stream><s:stream>",
        "<iq>&x;</iq>",
    ] {
        assert!(parse(text.as_bytes(), "jabber:client", Limits::default()).is_err(), "{text}");
    }
}

fn depth(element: &Element) -> usize {
    1 + element.children().map(depth).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn any_bytes_are_a_stanza_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, "jabber:client", Limits::default());
    }

    #[test]
    fn any_tags_are_a_stanza_or_not(
        tags in prop::collection::vec(
            prop::sample::select(vec!["<a>", "</a>", "<b x='1'/>", "t", "<c y='2' z='3'>", "</c>"]),
            0..60,
        ),
    ) {
        let limits = Limits { depth: 4, elements: 8, attributes: 1, value: 1, bytes: 100 };
        let text = format!("<iq>{}</iq>", tags.concat());
        if let Ok(Stanza::Whole(element)) = parse(text.as_bytes(), "jabber:client", limits) {
            prop_assert!(depth(&element) <= 4);
        }
    }

    #[test]
    fn the_size_of_pieces_does_not_matter(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..30),
        repeat in 0..200_usize,
        piece in 1..40_usize,
    ) {
        let long = "x&quot;\u{e9}>/".repeat(repeat);
        let said: String = parts.iter().map(|part| part.replace('L', &long)).collect();
        let text = STREAM.replace("<iq", &format!("{said}<iq"));
        let limits = Limits { bytes: 500, value: 100, ..Limits::default() };
        let (whole, end) = run(events(text.as_bytes(), usize::MAX, limits));
        let (pieces, other_end) = run(events(text.as_bytes(), piece, limits));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        prop_assert_eq!(end == Cause::Closed, other_end == Cause::Closed);
    }

    /// What is within the limits is not touched.
    #[test]
    fn what_is_not_too_much_is_read_as_without_limits(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..30),
    ) {
        let said: String = parts.iter().map(|part| part.replace('L', "&amp;\u{e9}")).collect();
        let said = said.replace("/XML/1998/", "/other/");
        let text = format!("<iq>{said}</iq>");
        let ours = parse(text.as_bytes(), "jabber:client", Limits::default());
        let theirs = format!("<s xmlns='jabber:client'>{text}</s>").parse::<Element>();
        match (ours, theirs) {
            (Ok(Stanza::Whole(ours)), Ok(theirs)) => {
                let mut all = theirs.children();
                // They differ in how text is divided.
                let theirs = (all.next().map(String::from), all.next());
                prop_assert_eq!(theirs, (Some(String::from(&ours)), None));
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?}, {theirs:?}"),
        }
    }
}
