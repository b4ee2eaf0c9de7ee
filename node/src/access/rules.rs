//! What each call and each HTTP route needs. What is not in these tables is refused; a test
//! compares them with the descriptors of the services and with the router, and with
//! `docs/SECURITY.md`.

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it tells nothing that is anybody's.
    Open,
    /// To have said who one is.
    User,
    /// SELECT on the view it names, and all of its rows.
    Select,
    /// INSERT on the stream it names.
    Insert,
    /// What its statement needs, checked where that is bound.
    Statement,
    /// OPERATE on the cluster.
    Operate,
}

/// Calls of gRPC, by their path.
pub const CALLS: &[(&str, Rule)] = &[
    ("/alluvium.v1.Admin/ChangeNode", Rule::Operate),
    ("/alluvium.v1.Admin/ListNodes", Rule::Operate),
    ("/alluvium.v1.Admin/Status", Rule::Operate),
    ("/alluvium.v1.Ingest/Append", Rule::Insert),
    ("/alluvium.v1.Ingest/AppendStream", Rule::Insert),
    ("/alluvium.v1.Ingest/OpenProducer", Rule::Insert),
    ("/alluvium.v1.Query/Lookup", Rule::Select),
    ("/alluvium.v1.Query/Query", Rule::Statement),
    ("/alluvium.v1.Query/Subscribe", Rule::Select),
    ("/arrow.flight.protocol.FlightService/DoAction", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/DoExchange", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/DoGet", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/DoPut", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/GetFlightInfo", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/GetSchema", Rule::Statement),
    ("/arrow.flight.protocol.FlightService/Handshake", Rule::User),
    ("/arrow.flight.protocol.FlightService/ListActions", Rule::User),
    ("/arrow.flight.protocol.FlightService/ListFlights", Rule::User),
    ("/arrow.flight.protocol.FlightService/PollFlightInfo", Rule::Statement),
    ("/grpc.health.v1.Health/Check", Rule::Open),
    ("/grpc.health.v1.Health/Watch", Rule::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rule::User),
];

/// Routes of HTTP: method, path as the router has it, rule.
pub const ROUTES: &[(&str, &str, Rule)] = &[
    ("GET", "/livez", Rule::Open),
    ("GET", "/readyz", Rule::Open),
    ("GET", "/restart-risk", Rule::Open),
    ("GET", "/metrics", Rule::Open),
    ("POST", "/v1/sql", Rule::Statement),
    ("POST", "/v1/streams/{name}/events", Rule::Insert),
    ("GET", "/v1/views/{name}/changes", Rule::Select),
    ("GET", "/v1/openapi.json", Rule::Open),
    ("GET", "/", Rule::Open),
    ("GET", "/console", Rule::Open),
    ("GET", "/console/", Rule::Open),
    ("GET", "/console/{file}", Rule::Open),
];

/// The rule of a call.
pub fn of_call(path: &str) -> Option<Rule> {
    CALLS.iter().find(|(known, _)| *known == path).map(|(_, rule)| *rule)
}

/// The rule of a request, by its method and its path as it was sent.
pub fn of_route(method: &str, path: &str) -> Option<Rule> {
    // A route that may be read may be asked for its head.
    let method = if method == "HEAD" { "GET" } else { method };
    let found = ROUTES.iter().find(|(known, template, _)| *known == method && fits(template, path));
    found.map(|(_, _, rule)| *rule)
}

fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut said) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), said.next()) {
            (None, None) => return true,
            (Some(wanted), Some(said)) if wanted == said => {}
            (Some(wanted), Some(said)) if wanted.starts_with('{') && !said.is_empty() => {}
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_no_rule() {
        assert_eq!(of_call("/alluvium.v1.Query/Query"), Some(Rule::Statement));
        for path in ["", "/", "/alluvium.v1.Query", "/alluvium.v1.Query/Query/", "//x/y"] {
            assert_eq!(of_call(path), None, "{path}");
        }
        assert_eq!(of_route("POST", "/v1/streams/x/events"), Some(Rule::Insert));
        assert_eq!(of_route("HEAD", "/livez"), Some(Rule::Open));
        assert_eq!(of_route("GET", "/console/"), Some(Rule::Open));
        assert_eq!(of_route("GET", "/console/app.css"), Some(Rule::Open));
        for path in ["/console/x/y", "//", "", "/v1/views//changes", "/consoles"] {
            assert_eq!(of_route("GET", path), None, "{path}");
        }
        for path in ["/v1/streams//events", "/v1/streams/x/y/events", "/livez/", "/v1/sql;/livez"] {
            assert_eq!(of_route("POST", path), None, "{path}");
        }
    }

    /// The table in the document is this table.
    #[test]
    fn the_document_says_the_same() {
        let document = include_str!("../../../docs/SECURITY.md");
        let said: Vec<&str> = document
            .lines()
            .skip_while(|line| *line != "| call | needs |")
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let calls = CALLS.iter().map(|(call, rule)| format!("| `{call}` | {rule:?} |"));
        let routes =
            ROUTES.iter().map(|(method, path, rule)| format!("| `{method} {path}` | {rule:?} |"));
        let known: Vec<String> = calls.chain(routes).collect();
        assert_eq!(said, known);
    }

    /// Every route, from the text of the router and from the description of it.
    #[test]
    fn every_route_has_a_rule() {
        let routers = [include_str!("../http.rs"), include_str!("../http/console.rs")];
        let mut count = 0;
        for part in routers.iter().flat_map(|router| router.split(".route(\"").skip(1)) {
            let path = part.split('"').next().unwrap();
            let rules = ROUTES.iter().filter(|(_, template, _)| *template == path);
            assert!(0 < rules.count(), "{path} has no rule");
            count += 1;
        }
        assert_eq!(count, ROUTES.len(), "a rule for a route that is not there");
        let described: serde_json::Value =
            serde_json::from_str(include_str!("../http/openapi.json")).unwrap();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                let rule = ROUTES.iter().find(|rule| rule.0 == method && rule.1 == path);
                assert!(rule.is_some(), "{method} {path} has no rule");
            }
        }
    }
}
