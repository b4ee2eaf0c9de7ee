//! Who a command says it is, with each call.

use alluvium_query::access::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// A user and a password, or nobody. Shows neither.
#[derive(Clone, Debug, Default)]
pub struct Authorization(Option<MetadataValue<Ascii>>);

impl Authorization {
    /// Of this user.
    #[must_use]
    pub fn basic(user: &str, password: &Secret) -> Authorization {
        let coded = BASE64.encode(format!("{user}:{}", password.expose()));
        // Base64 is ASCII, so this is always one.
        let header = MetadataValue::try_from(format!("Basic {coded}")).ok();
        Authorization(header.map(|mut header| {
            header.set_sensitive(true);
            header
        }))
    }
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_and_not_shown() {
        let mut ann = Authorization::basic("ann", &Secret::new("a:b"));
        assert!(!format!("{ann:?}").contains("YW5u"), "{ann:?}");
        let request = ann.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Basic YW5uOmE6Yg==");
        let request = Authorization::default().call(Request::new(())).unwrap();
        assert!(request.metadata().get("authorization").is_none());
    }
}
