//! Keeps pages of other sites from using a node through somebody's browser.
//!
//! A node on a laptop or in an office is reached by every browser there, and a browser runs the
//! pages of strangers. Three checks, none of which a program without a browser notices:
//!
//! - A browser says which site a page is from (`Origin`). Another site than the one that is asked
//!   is refused.
//! - What a browser sends with `Origin` and changes something must be of a content type for which
//!   browsers ask first. Forms of old browsers, which said no origin, cannot send such a type.
//! - A name of a stranger that leads to 127.0.0.1 (DNS rebinding) makes the stranger's page one of
//!   this site. So a node that listens on loopback alone answers to addresses, to names without
//!   a dot and to the names below `localhost` only: none of these can be had by a stranger.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::bootstrap::Doors;

/// Content types that a page may send anywhere without asking first.
const SIMPLE: [&str; 3] =
    ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Lets a request through, or says why not.
pub async fn check(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let is_loopback = doors.node().is_some_and(|node| node.addresses.http.ip().is_loopback());
    let host = request.uri().authority().map(|authority| authority.as_str());
    match allowed(request.method(), request.headers(), host, is_loopback) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn allowed(
    method: &Method,
    headers: &HeaderMap,
    host: Option<&str>,
    is_loopback: bool,
) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = host.or_else(|| text(header::HOST)).unwrap_or_default();
    if is_loopback && !host.is_empty() && !is_own_name(host) {
        let said = format!(
            "this node listens on loopback and is not called \"{host}\"; ask for 127.0.0.1 or \
             localhost (a proxy in front of it must send one of these as Host)"
        );
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "28000", said));
    }
    let refused = |said: &str| Err(Failure::new(StatusCode::FORBIDDEN, "28000", said));
    if text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return refused("a page of another site asked for this");
    }
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(());
    };
    let site = origin.split_once("://").map(|(_, site)| site);
    if site != Some(host) {
        return refused("a page of another site asked for this");
    }
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_simple = kind.is_empty() || SIMPLE.iter().any(|one| one.eq_ignore_ascii_case(kind));
    if *method == Method::POST && is_simple {
        let said = "a page must say what it sends: application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "08P01", said));
    }
    Ok(())
}

/// An address, or a name that nobody else can have.
fn is_own_name(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split_once(']').map(|(address, _)| address);
        return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to a request with these headers, sent to a node on loopback.
    fn check(method: &str, headers: &[(&str, &str)], expected: u16) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answered = match allowed(&method, &map, None, true) {
            Ok(()) => StatusCode::OK,
            Err(failure) => failure.into_response().status(),
        };
        assert_eq!(answered.as_u16(), expected, "{method} {headers:?}");
    }

    #[test]
    fn programs_without_a_browser_are_let_in() {
        let host = ("host", "127.0.0.1:7402");
        check("POST", &[host, ("content-type", "application/x-www-form-urlencoded")], 200);
        check("POST", &[host, ("content-type", "text/plain")], 200);
        check("POST", &[host], 200);
        check("GET", &[], 200);
        for name in ["localhost:7402", "[::1]:7402", "LOCALHOST", "laptop", "a.localhost:1"] {
            check("GET", &[("host", name)], 200);
        }
    }

    #[test]
    fn own_pages_are_let_in() {
        let own = [("host", "localhost:7402"), ("origin", "http://localhost:7402")];
        let json = ("content-type", "application/json; charset=utf-8");
        check("POST", &[own[0], own[1], json], 200);
        check("GET", &own, 200);
        check("POST", &own, 415);
        check("POST", &[own[0], own[1], ("content-type", "Text/Plain; charset=utf-8")], 415);
    }

    #[test]
    fn pages_of_other_sites_are_not() {
        let host = ("host", "127.0.0.1:7402");
        let json = ("content-type", "application/json");
        let strangers =
            ["http://evil.example", "null", "http://127.0.0.1:80", "http://127.0.0.1", "", "x"];
        for origin in strangers {
            check("POST", &[host, ("origin", origin), json], 403);
            check("GET", &[host, ("origin", origin)], 403);
        }
        check("GET", &[host, ("sec-fetch-site", "cross-site")], 403);
        check("GET", &[host, ("sec-fetch-site", "same-origin")], 200);
    }

    #[test]
    fn names_of_strangers_are_not_ours() {
        let names =
            ["evil.example:7402", "127.0.0.1.evil.example", "localhost.evil.example", "[x]"];
        for name in names {
            check("GET", &[("host", name)], 421);
            check("POST", &[("host", name), ("content-type", "application/json")], 421);
        }
    }
}
