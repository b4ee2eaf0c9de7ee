//! `/console/`: pages for people, out of the program itself.
//!
//! The files are in `console/`, as a browser takes them: nothing is built, and nothing is loaded
//! from anywhere else. They hold no data; what they show they ask for over `/v1/`.
//!
//! Invariant: the pages run no script and load nothing but these files, whatever a stream, a view
//! or an error holds: the policy below forbids the rest, and the scripts write text, never HTML.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::bootstrap::Doors;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file as it is served.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn file(name: &'static str, kind: &'static str, text: &'static str) -> File {
    File { name, kind, text }
}

const FILES: [File; 15] = [
    file("", HTML, include_str!("console/index.html")),
    file("app.css", CSS, include_str!("console/app.css")),
    file("icon.svg", SVG, include_str!("console/icon.svg")),
    file("main.js", JS, include_str!("console/main.js")),
    file("api.js", JS, include_str!("console/api.js")),
    file("dom.js", JS, include_str!("console/dom.js")),
    file("format.js", JS, include_str!("console/format.js")),
    file("cluster.js", JS, include_str!("console/cluster.js")),
    file("tables.js", JS, include_str!("console/tables.js")),
    file("editor.js", JS, include_str!("console/editor.js")),
    file("words.js", JS, include_str!("console/words.js")),
    file("history.js", JS, include_str!("console/history.js")),
    file("chart.js", JS, include_str!("console/chart.js")),
    file("queries.js", JS, include_str!("console/queries.js")),
    file("tail.js", JS, include_str!("console/tail.js")),
];

/// The pages, and the way to them from the address alone.
pub fn router() -> Router<Arc<Doors>> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/console/") }))
        .route("/console", get(|| async { Redirect::temporary("/console/") }))
        .route("/console/", get(|| async { serve("") }))
        .route("/console/{file}", get(|Path(name): Path<String>| async move { serve(&name) }))
}

fn serve(name: &str) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, file.kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // Another version of the program has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, file.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places in which a browser would load something, or take text for a script.
    const FORBIDDEN: [&str; 9] = [
        "http://",
        "https://",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "javascript:",
    ];

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_no_text_becomes_html() {
        for file in &FILES {
            // The one address that is a name and not a place.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for forbidden in FORBIDDEN {
                assert!(!text.contains(forbidden), "{} has {forbidden}", file.name);
            }
        }
        let page = FILES[0].text;
        assert!(!page.contains("<style") && !page.contains("style="), "styles are in app.css");
        assert!(
            page.matches("<script").count() == page.matches("<script type=\"module\" src=").count()
        );
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        for file in FILES.iter().filter(|file| file.kind == JS) {
            for named in file.text.split("from \"./").skip(1) {
                let name = named.split('"').next().unwrap_or_default();
                assert!(FILES.iter().any(|file| file.name == name), "{} names {name}", file.name);
            }
        }
        assert_eq!(serve("nothing").status(), StatusCode::NOT_FOUND);
    }
}
