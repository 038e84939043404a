//! The layouts that plugins were built against. They may only grow, at the end of tables: a plugin of every earlier version
//! must still load.

use std::{
    collections::{BTreeMap, HashSet},
    env, fs,
};

use tenon_plugin_abi::{
    Capabilities, Code, EmbedderBox, EncodeFlags, LogLevel, PluginModule_Ref, TokenKind,
    abi_stable::{
        StableAbi,
        std_types::utypeid::UTypeId,
        type_layout::{TLData, TLField, TypeLayout},
    },
    c::LAYOUT_LINES,
};

/// The layouts as they were recorded last.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/layouts.txt");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include/tenon_plugin.h");
/// Set to any value, it makes the test record the layouts if they have only grown.
const RECORD: &str = "TENON_RECORD_LAYOUTS";

#[test]
#[cfg(target_pointer_width = "64")]
fn layouts_only_grow() {
    let (recorded, found) = (fs::read_to_string(RECORDED), dump());
    let recorded = recorded.expect("the recorded layouts");
    if let Some(change) = first_change(&recorded, &found) {
        panic!(
            "The plugin ABI has changed: {change}. Plugins of earlier versions would not load any more, so undo this. Methods and fields of tables are appended at their ends; other structs grow by accessors of their `reserved` and `hints`, and by keys of `meta`."
        );
    }
    if env::var_os(RECORD).is_some() {
        fs::write(RECORDED, found).expect("the file can be written");
        return;
    }
    assert!(
        found == recorded,
        "The plugin ABI has grown, as it may. Raise the minor version of tenon-plugin-abi, and record the new layouts: {RECORD}=1 cargo test --release -p tenon-plugin-abi --test layouts"
    );
}

/// The second words of Rust's slices, which have no name there.
const LENGTHS: [&str; 7] = [
    "TENON_AT(tenon_batch, tokens_len, 8);",
    "TENON_AT(tenon_batch, spans_len, 24);",
    "TENON_AT(tenon_sample_request, mask_len, 88);",
    "TENON_AT(tenon_sample_request, bias_len, 104);",
    "TENON_AT(tenon_sample_request, counts_len, 120);",
    "TENON_AT(tenon_sample_request, appended_len, 136);",
    "TENON_AT(tenon_sampled, top_room, 16);",
];

#[test]
#[cfg(target_pointer_width = "64")]
fn the_header_has_the_same_numbers() {
    let header = fs::read_to_string(HEADER).expect("the header");
    let is_number = |line: &&str| {
        ["TENON_SIZE(", "TENON_AT("]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    let mut stated: Vec<&str> = header.lines().filter(is_number).collect();
    let mut expected = [LAYOUT_LINES, &LENGTHS].concat();
    stated.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stated, expected);
}

/// A sink's `put` is called within the call that got the sink.
#[test]
fn each_function_of_the_header_names_its_thread() {
    let header = fs::read_to_string(HEADER).expect("the header");
    let mut comment = "";
    for line in header.lines().map(str::trim_start) {
        if line.starts_with("/*") {
            comment = line;
        } else if line.contains("(*") && !line.contains("(*put)") {
            let names = comment.starts_with("/* [") && comment.contains("thread");
            assert!(names, "{line}");
            comment = "";
        }
    }
}

/// A plugin of an earlier version lacks the methods after `last_prefix_field`. Their bodies answer in its place: a call of a method
/// without a body ends the process.
#[test]
fn methods_that_earlier_plugins_lack_have_bodies() {
    let mut objects = 0;
    for file in fs::read_dir(SOURCES).expect("the sources") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source");
        for object in object_traits(&source) {
            objects += 1;
            let lacking = without_body(object);
            assert_eq!(lacking, [""; 0], "give them bodies in {}", path.display());
        }
    }
    assert_eq!(objects, 7, "the traits of objects");
}

#[test]
fn a_method_without_a_body_is_seen() {
    let source = "\n#[sabi_trait]\npub trait A {\n    fn old(&self);\n    #[sabi(last_prefix_field)]\n    fn last(\n        &self,\n    ) -> u32;\n            /// Is new; and good.\n    fn good(&self) -> u32 {\n        0;\n    }\n    fn short(&self);\n    fn long(\n        &self,\n    ) -> u32;\n}\n";
    let objects: Vec<_> = object_traits(source).collect();
    assert_eq!(objects.len(), 1);
    assert_eq!(without_body(objects[0]), ["fn short(&self);", ") -> u32;"]);
}

/// The traits of objects in a formatted source.
fn object_traits(source: &str) -> impl Iterator<Item = &str> {
    let traits = source.split("\n#[sabi_trait]\n").skip(1);
    traits.map(|object| object.split("\n}\n").next().unwrap_or_default())
}

/// The last lines of those declarations after the one marked `last_prefix_field` that have no body.
fn without_body(object: &str) -> Vec<&str> {
    let (_, appended) = object
        .split_once("#[sabi(last_prefix_field)]\n")
        .expect("a last method of the first version");
    let ends = appended.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        (!line.starts_with([' ', '/']) && line.ends_with(';')).then_some(line)
    });
    // The first end is that of the marked method.
    ends.skip(1).collect()
}

#[test]
fn only_appending_to_tables_is_growth() {
    let recorded = "table A\n    0 a: u32\n\nstruct B, 4 bytes\n    0 b: u32\n";
    let check = |found: &str, change: Option<&str>| {
        assert_eq!(first_change(recorded, found).as_deref(), change, "{found}");
    };
    check(recorded, None);
    check(
        &format!("{recorded}\nstruct C, 4 bytes\n    0 c: u32\n"),
        None,
    );
    check(
        &recorded.replace("a: u32\n", "a: u32\n    1 new: u32\n"),
        None,
    );
    check(
        &recorded.replace("b: u32\n", "b: u32\n    4 new: u32\n"),
        Some("`struct B, 4 bytes` has a new line `4 new: u32`"),
    );
    check(
        &recorded.replace("a: u32", "a: u64"),
        Some("in `table A`, `0 a: u32` has become `0 a: u64`"),
    );
    check(
        &recorded.replace("    0 a: u32\n", ""),
        Some("in `table A`, `0 a: u32` is gone"),
    );
    check(
        &recorded.replace("B, 4", "B, 8"),
        Some("`struct B, 4 bytes` is gone, or has another size"),
    );
}

/// The first difference that is no growth.
fn first_change(recorded: &str, found: &str) -> Option<String> {
    let found = blocks(found);
    blocks(recorded).into_iter().find_map(|(head, before)| {
        let Some(now) = found.get(head) else {
            return Some(format!("`{head}` is gone, or has another size"));
        };
        for (at, line) in before.iter().enumerate() {
            match now.get(at) {
                Some(same) if same == line => {}
                Some(other) => {
                    return Some(format!("in `{head}`, `{line}` has become `{other}`"));
                }
                None => return Some(format!("in `{head}`, `{line}` is gone")),
            }
        }
        let grows = head.starts_with("table ") || head.starts_with("values ");
        let new = now.get(before.len()).filter(|_| !grows)?;
        Some(format!("`{head}` has a new line `{new}`"))
    })
}

/// The blocks of a dump: the lines under each head.
fn blocks(dump: &str) -> BTreeMap<&str, Vec<&str>> {
    let blocks = dump.split("\n\n").filter_map(|block| {
        let mut lines = block.lines();
        Some((lines.next()?, lines.map(str::trim).collect()))
    });
    blocks.collect()
}

/// All layouts that a plugin can meet, and the numbers that have names.
fn dump() -> String {
    let mut walk = Walk::default();
    walk.visit(PluginModule_Ref::LAYOUT);
    walk.visit(EmbedderBox::LAYOUT);
    let mut dump: Vec<_> = walk.found.into_values().collect();
    dump.extend(values());
    dump.extend(c_blocks());
    dump.join("\n")
}

/// What the header for C declares: structs with their fields, and named numbers. The header itself checks sizes and offsets. A struct
/// that begins with its size may grow, like a table.
fn c_blocks() -> Vec<String> {
    let header = fs::read_to_string(HEADER).expect("the header");
    let (text, sizes) = (without_comments(&header), sizes(&header));
    let structs = bodies(&text, "struct ").into_iter().map(|(name, body)| {
        let fields: Vec<String> = body.split(';').map(one_line).collect();
        let head = match fields[0].as_str() {
            "size_t size" => format!("table {name} in C\n"),
            _ => format!("struct {name} in C, {} bytes\n", sizes[name]),
        };
        head + &lines(&fields)
    });
    let values = bodies(&text, "enum").into_iter().map(|(_, body)| {
        let values: Vec<String> = body.split(',').map(one_line).collect();
        let (first, _) = values[0].split_once(' ').expect("a name and a number");
        format!("values from {first} in C\n{}", lines(&values))
    });
    structs.chain(values).collect()
}

/// The name after each keyword, and what is between the braces that follow. Declarations without braces are left out.
fn bodies<'a>(text: &'a str, keyword: &str) -> Vec<(&'a str, &'a str)> {
    let after = text.split(keyword).skip(1);
    let bodies = after.filter_map(|after| {
        let (name, rest) = after.split_once('{')?;
        let is_name = name.trim().chars().all(|c| c.is_alphanumeric() || c == '_');
        is_name.then_some((name.trim(), rest.split_once('}')?.0))
    });
    bodies.collect()
}

fn without_comments(text: &str) -> String {
    let mut pieces = text.split("/*");
    let first = pieces.next().unwrap_or_default();
    let others = pieces.filter_map(|piece| Some(piece.split_once("*/")?.1));
    [first].into_iter().chain(others).collect()
}

/// The size that the header states of each struct.
fn sizes(header: &str) -> BTreeMap<&str, &str> {
    let stated = header.lines().filter_map(|line| {
        let stated = line.strip_prefix("TENON_SIZE(")?.strip_suffix(");")?;
        stated.split_once(", ")
    });
    stated.collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lines(lines: &[String]) -> String {
    let lines = lines.iter().filter(|line| !line.is_empty());
    lines.map(|line| format!("    {line}\n")).collect()
}

/// Describes the types of the ABI, each with its fields, wherever they are found.
#[derive(Default)]
struct Walk {
    seen: HashSet<UTypeId>,
    /// By name.
    found: BTreeMap<String, String>,
}

impl Walk {
    fn visit(&mut self, layout: &'static TypeLayout) {
        if is_description(layout) || !self.seen.insert(layout.get_utypeid()) {
            return;
        }
        if is_ours(layout) {
            self.found.insert(name(layout), describe(layout));
        }
        for field in fields(layout)
            .iter()
            .chain(&layout.phantom_fields().to_vec())
        {
            self.visit(field.layout());
            for function in field.function_range().iter() {
                let returned = function.return_type_layout().into_iter();
                let types = function.param_type_layouts.iter().chain(returned);
                types.for_each(|layout| self.visit(layout()));
            }
        }
        for parameter in layout.generics().type_params() {
            self.visit(parameter());
        }
    }
}

fn is_ours(layout: &TypeLayout) -> bool {
    layout.package() == env!("CARGO_PKG_NAME")
}

/// Whether the type describes layouts itself. It is that of `abi_stable`, whose version is pinned.
fn is_description(layout: &TypeLayout) -> bool {
    layout.name() == "TypeLayout"
}

fn fields(layout: &TypeLayout) -> Vec<TLField> {
    let fields = layout.get_fields().into_iter();
    fields.flat_map(|fields| fields.to_vec()).collect()
}

/// A head line and one line for each field, with its place: an offset in bytes, or a number in a table.
fn describe(layout: &TypeLayout) -> String {
    let (name, fields) = (name(layout), fields(layout));
    if let TLData::PrefixType(table) = layout.data() {
        let least = table.first_suffix_field;
        let lines = fields.iter().enumerate();
        let lines =
            lines.map(|(at, field)| format!("    {at} {}: {}\n", field.name(), type_of(field)));
        return format!(
            "table {name}, {least} fields at least\n{}",
            lines.collect::<String>()
        );
    }
    let (size, alignment) = (layout.size(), layout.alignment());
    let mut text = format!("struct {name}, {size} bytes, aligned to {alignment}\n");
    let mut end = 0_usize;
    for field in &fields {
        let start = end.next_multiple_of(field.layout().alignment());
        end = start + field.layout().size();
        let line = format!(
            "    {start} {}: {}, {} bytes\n",
            field.name(),
            type_of(field),
            end - start
        );
        text.push_str(&line);
    }
    assert_eq!(
        end.next_multiple_of(alignment),
        size,
        "the offsets of {name}"
    );
    text
}

/// A field's type; for a function, its parameters and its result.
fn type_of(field: &TLField) -> String {
    let functions = field.function_range();
    if functions.is_empty() {
        return name(field.layout());
    }
    let functions = functions.iter().map(|function| {
        let parameters = function.param_type_layouts.iter();
        let parameters: Vec<_> = parameters.map(|layout| name(layout())).collect();
        let result = function.return_type_layout();
        let result = result.map_or("()".to_owned(), |layout| name(layout()));
        format!("fn({}) -> {result}", parameters.join(", "))
    });
    functions.collect::<Vec<_>>().join(", ")
}

/// The type's name: with its module if the ABI defines it, otherwise with the types that it is made for.
fn name(layout: &TypeLayout) -> String {
    name_within(layout, DEPTH)
}

fn name_within(layout: &TypeLayout, depth: usize) -> String {
    if is_ours(layout) {
        let path = layout.mod_path().to_string();
        let path = path.trim_start_matches("tenon_plugin_abi::");
        let constants = layout.generics().const_params();
        let constants: Vec<_> = constants.iter().map(|value| format!("{value:?}")).collect();
        return match constants.is_empty() {
            true => format!("{path}::{}", layout.name()),
            false => format!("{path}::{}<{}>", layout.name(), constants.join(", ")),
        };
    }
    if is_simple(layout) {
        return layout.name().to_owned();
    }
    let made_for = match layout.data() {
        TLData::Enum(_) if depth > 0 => fields(layout)
            .iter()
            .map(|field| name_within(field.layout(), depth - 1))
            .collect(),
        _ => made_for(layout, depth),
    };
    match made_for.is_empty() {
        true => layout.name().to_owned(),
        false if layout.name() == "&" => format!("&{}", made_for.join(", ")),
        false => format!("{}<{}>", layout.name(), made_for.join(", ")),
    }
}

/// How far the types in a container of `abi_stable` are followed.
const DEPTH: usize = 5;

/// Names of the types in a container: those of the ABI, texts and numbers.
fn made_for(layout: &TypeLayout, depth: usize) -> Vec<String> {
    if is_ours(layout) || is_simple(layout) {
        return vec![name_within(layout, depth)];
    }
    if depth == 0 || layout.is_prefix_kind() || is_description(layout) {
        return Vec::new();
    }
    let fields = fields(layout);
    let inner = fields.iter().map(TLField::layout);
    let parameters = layout.generics().type_params().iter();
    let inner = inner.chain(parameters.map(|layout| layout()));
    let mut names = Vec::new();
    for name in inner.flat_map(|layout| made_for(layout, depth - 1)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether the type is a text, or a number that is not a length or an address.
fn is_simple(layout: &TypeLayout) -> bool {
    const SIMPLE: [&str; 11] = [
        "u8", "u16", "u32", "u64", "i32", "i64", "f32", "f64", "bool", "RStr", "RString",
    ];
    SIMPLE.contains(&layout.name())
}

/// Named numbers of open enumerations.
fn values() -> Vec<String> {
    macro_rules! values {
        ($type:ident: $($name:ident)*) => {
            [concat!("values ", stringify!($type), "\n").to_owned()]
                .into_iter()
                .chain([$(format!("    {} = {}\n", stringify!($name), $type::$name.0)),*])
                .collect::<String>()
        };
    }
    vec![
        values!(Code: OK INVALID UNSUPPORTED NO_KV_SPACE NO_MEMORY BAD_POSITION SEQUENCE_LOST NO_ALLOWED_TOKEN
            BAD_LOGITS CANCELLED DEVICE_LOST PANICKED IO INTERNAL),
        values!(TokenKind: NORMAL CONTROL BYTE UNUSED UNKNOWN USER_DEFINED),
        values!(EncodeFlags: PARSE_CONTROL ADD_SPECIAL CONTINUATION),
        values!(LogLevel: ERROR WARN INFO DEBUG TRACE),
        values!(Capabilities: CANONICAL_TOKENIZER),
    ]
}
