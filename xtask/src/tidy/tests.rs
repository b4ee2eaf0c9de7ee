//! A breach of each rule is found, and the repository has none.

use super::source::Source;
use super::{Finding, check, directions, documents, names, sizes, vocabulary, words, wrap};
use crate::metadata::Package;

const ARCHITECTURE: &str = "
## Who may name what

| names | only in | never in | tests too |
|---|---|---|---|
| `arrow` | `node/views/` | | yes |
| `Instant::now`, `rand::` | `node/clock.rs` | | no |
| `.unwrap()`, `HashMap` | | `node/core/` | no |

## Dependency directions

| crate | may depend on |
|---|---|
| `core` | |
| `store` | `core` |
";

fn found(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// How many findings the table of names gives for one line of code at a path.
fn name_findings(path: &str, text: &str) -> usize {
    let rules = names::rules(ARCHITECTURE).expect("a table");
    names::check(&rules, &Source::parse(path, text)).len()
}

#[test]
fn a_name_in_the_wrong_place_is_found() {
    for (path, text, expected) in [
        ("node/core/a.rs", "use arrow::array;", 1),
        ("node/core/a.rs", "use arrow_schema::Field;", 1),
        ("node/core/a.rs", "use ::arrow::array;", 1),
        ("node/views/a.rs", "use arrow::array;", 0),
        ("node/core/a.rs", "use crate::arrow::array;", 0),
        ("node/core/a.rs", "let narrow = arrows;", 0),
        ("node/core/a.rs", "// arrow::array", 0),
        ("node/core/a.rs", "let a = \"arrow::array\";", 0),
        ("node/core/a.rs", "let t = std::time::Instant::now();", 1),
        ("node/clock.rs", "let t = Instant::now();", 0),
        ("node/core/a.rs", "let x = y.unwrap();", 1),
        ("node/core/a.rs", "let x = y.unwrap_or(1);", 0),
        ("node/store/a.rs", "let x: HashMap<u8, u8>;", 0),
        ("node/core/a.rs", "#[cfg(test)]\nmod tests {\n  fn a() { b.unwrap() }\n}\n", 0),
        ("node/core/a.rs", "#[cfg(test)]\nmod tests {\n  use arrow::a;\n}\n", 1),
        ("node/core/a.rs", "#[cfg(test)]\nmod tests;\nfn a() { b.unwrap() }\n", 1),
    ] {
        assert_eq!(name_findings(path, text), expected, "{path}: {text}");
    }
}

#[test]
fn a_table_that_forbids_nothing_is_refused() {
    let heading = "## Who may name what\n\n| a | b | c | d |\n|---|---|---|---|\n";
    assert!(names::rules(&format!("{heading}| `a` | | | yes |\n")).is_err());
    assert!(names::rules(&format!("{heading}| `a` | `b/` | | perhaps |\n")).is_err());
    assert!(names::rules("# Nothing here\n").is_err());
}

#[test]
fn a_place_that_is_gone_is_found() {
    let rules = names::rules(ARCHITECTURE).expect("a table");
    assert_eq!(names::check_places(&rules, |path| path != "node/clock.rs").len(), 1);
}

#[test]
fn a_dependency_against_the_direction_is_found() {
    let package = |name: &str, dependencies: &[&str]| Package {
        name: name.to_string(),
        dir: format!("node/{name}"),
        dependencies: dependencies.iter().map(ToString::to_string).collect(),
    };
    let table = directions::table(ARCHITECTURE).expect("a table");
    let good = [package("core", &["bytes"]), package("store", &["core"])];
    assert_eq!(found(&directions::check(&table, &good)), [""; 0]);
    let bad = [package("core", &["store"]), package("store", &[]), package("new", &[])];
    assert_eq!(directions::check(&table, &bad).len(), 2);

    let rules = names::rules(ARCHITECTURE).expect("a table");
    let used = ["arrow".to_string()];
    assert_eq!(names::check_manifest(&rules, "core", "node/core", &used).len(), 1);
    assert_eq!(names::check_manifest(&rules, "views", "node/views", &used).len(), 0);
    assert_eq!(names::check_manifest(&rules, "node", "node", &used).len(), 0);
}

#[test]
fn what_is_too_long_is_found() {
    let size = |text: &str| sizes::check(&Source::parse("a.rs", text)).len();
    let doc = "//! A doc.\n";
    assert_eq!(size(doc), 0);
    assert_eq!(size("fn a() {}\n"), 1, "no module doc");
    assert_eq!(size(&format!("{doc}{}", "// b\n".repeat(499))), 0);
    assert_eq!(size(&format!("{doc}{}", "// b\n".repeat(500))), 1);
    let function = |lines: usize| format!("{doc}fn a() {{\n{}}}\n", "    b();\n".repeat(lines));
    assert_eq!(size(&function(68)), 0);
    assert_eq!(size(&function(69)), 1);
    assert_eq!(size(&format!("{doc}// {}\n", "b".repeat(97))), 0);
    assert_eq!(size(&format!("{doc}// {}\n", "b".repeat(98))), 1);
    assert_eq!(size(&format!("{doc}const A: &str = \"{}\";\n", "b".repeat(98))), 0);
}

#[test]
fn unfinished_work_is_found() {
    let code = |path: &str, text: &str| words::check_code(&Source::parse(path, text)).len();
    assert_eq!(code("a.rs", "fn a() { todo!() }"), 1);
    assert_eq!(code("a.rs", "// todo!"), 0);
    assert_eq!(code("a.rs", "#[ignore = \"slow\"]"), 1);
    assert_eq!(code("a.rs", "std::thread::sleep(a);"), 0);
    assert_eq!(code("tests.rs", "std::thread::sleep(a);"), 1);
    assert_eq!(code("node/tests/it/main.rs", "tokio::time::sleep(a).await;"), 1);
}

#[test]
fn what_belongs_to_one_machine_is_found() {
    let home = concat!("/ro", "ot/");
    for (text, expected) in [
        (format!("see `{home}me/x`\n"), 1),
        (format!("{home}me/x\n"), 1),
        (format!("a{home}\n"), 0),
        ("a \n".to_string(), 1),
        ("a".to_string(), 1),
        ("a\n".to_string(), 0),
    ] {
        assert_eq!(words::check_text("a.md", &text).len(), expected, "{text:?}");
    }
}

#[test]
fn a_word_of_another_trade_is_found() {
    let text = "## Words our names do not use\n\n| word | say |\n|---|---|\n\
                | `topic` | stream |\n\n## Words our files are not named by\n\n\
                | word | say |\n|---|---|\n| `utils` | what it is |\n";
    let names = vocabulary::table(text, vocabulary::NAMES).expect("a table");
    let files = vocabulary::table(text, vocabulary::FILES).expect("a table");
    for (path, text, expected) in [
        ("a.rs", "fn open_topic() {}", 1),
        ("a.rs", "pub struct TopicReader;", 1),
        ("a.rs", "fn topical() {}", 0),
        ("a.rs", "let topic = 1;", 0),
        ("a/utils/b.rs", "", 1),
        ("utils.rs", "", 1),
    ] {
        let mut findings = vocabulary::check_names(&names, &Source::parse(path, text));
        findings.extend(vocabulary::check_file(&files, path));
        assert_eq!(findings.len(), expected, "{path}: {text}");
    }
}

#[test]
fn what_no_document_explains_is_found() {
    let explained = |text: &str| {
        let source = Source::parse("node/src/a.rs", text);
        vocabulary::check_documents(&source, |_| "system.streams alluvium_up".to_string()).len()
    };
    assert_eq!(explained("a(\"SELECT * FROM system.streams\")"), 0);
    assert_eq!(explained("a(\"system.secrets\")"), 1);
    assert_eq!(explained("a(\"alluvium_up\")"), 0);
    assert_eq!(explained("a(\"alluvium_down\")"), 1);
    assert_eq!(explained("a(\"ALLUVIUM_X\")"), 1);
    assert_eq!(explained("a(\"warn,alluvium_core=debug\")"), 0);
    assert_eq!(explained("// system.secrets"), 0);
    assert_eq!(explained("registry.register(\"up\", \"Up\", a)"), 0);
    assert_eq!(explained("registry.register_with_unit(\n  \"down\", \"Down\", a)"), 1);
}

#[test]
fn a_document_that_points_nowhere_is_found() {
    let check = |path: &str, text: &str| {
        documents::check(path, text, &["demo"], |path| path == "docs/A.md").len()
    };
    for (path, text, expected) in [
        ("README.md", "[a](docs/A.md)", 0),
        ("docs/B.md", "[a](A.md#part)", 0),
        ("docs/adr/B.md", "[a](../A.md)", 0),
        ("docs/adr/B.md", "[a](A.md)", 1),
        ("README.md", "see `docs/A.md:12`", 0),
        ("README.md", "see `docs/C.md`", 1),
        ("README.md", "see `docs/*.md`", 0),
        ("README.md", "`cargo xtask demo`", 0),
        ("README.md", "`cargo xtask dance`", 1),
        ("README.md", "```\n`docs/C.md`\n```", 0),
    ] {
        assert_eq!(check(path, text), expected, "{path}: {text}");
    }
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let text = "a(\"b // c\"); /* d /* e */ f */ g('\"', b'\\'', r#\"h \" i\"#, 'j'); // k\nl";
    let source = Source::parse("a.rs", text);
    let words: Vec<&str> =
        source.code.iter().flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).collect();
    let kept: String = words.concat();
    assert_eq!(kept, "agbl");
    let strings: Vec<&str> = source.strings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(strings, ["b // c", "h \" i"]);
    assert_eq!(source.code.len(), source.lines.len());
    assert_eq!(source.code[0].chars().count(), source.lines[0].chars().count());
}

#[test]
fn a_wide_comment_is_wrapped() {
    let wide = format!("//! {}end", "word ".repeat(20));
    let wrapped = |text: &str| wrap::wrap("a.rs", text);
    let kept = format!("//! {}", "word ".repeat(19).trim_end());
    assert_eq!(wrapped(&format!("{wide}\n")), format!("{kept}\n//! word end\n"));
    assert_eq!(wrapped(&format!("{wide}\n//! of it.\n")), format!("{kept}\n//! word end of it.\n"));
    assert_eq!(wrapped(&format!("{wide}\n//! - b\n")), format!("{kept}\n//! word end\n//! - b\n"));
    assert_eq!(wrapped(&format!("{wide}\n\nfn a() {{}}\n")), {
        format!("{kept}\n//! word end\n\nfn a() {{}}\n")
    });
    let item = format!("    // - {}end\n", "word ".repeat(19));
    assert_eq!(wrapped(&item), {
        format!("    // - {}\n    //   word end\n", "word ".repeat(18).trim_end())
    });
    for untouched in [
        format!("//! | {} |\n", "word ".repeat(30)),
        format!("const A: &str = \"{}\";\n", "word ".repeat(30)),
        format!("const A: &str = r\"\n// {}\n\";\n", "word ".repeat(30)),
        format!("//! ```text\n//! {}\n//! ```\n", "word ".repeat(30).trim_end()),
    ] {
        assert_eq!(wrapped(&untouched), untouched);
    }
}

/// The rules hold for this repository.
#[test]
fn the_repository_is_tidy() {
    let findings = check(&crate::cargo::root()).expect("a repository that can be read");
    assert_eq!(found(&findings), [""; 0], "run `cargo xtask tidy`");
}
