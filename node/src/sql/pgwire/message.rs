//! The messages of the protocol, version 3: read from clients and written to them.
//!
//! No state of a connection and no SQL; every length is checked before it is believed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest message taken: an append's worth of rows.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a client sends once it is connected.
#[derive(Debug, PartialEq, Eq)]
pub enum Frontend {
    /// One or more statements as text.
    Query(String),
    /// A statement to be kept under a name; types of parameters as far as the client says them.
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    /// Values for a statement that is kept; the result is a portal.
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        result_formats: Vec<i16>,
    },
    /// What a statement or portal takes and answers.
    Describe(Target),
    /// Rows of a portal; 0 for all.
    Execute {
        portal: String,
        max_rows: i32,
    },
    /// Forget it.
    Close(Target),
    /// Send what is written.
    Flush,
    /// The end of a group of messages.
    Sync,
    /// The client goes.
    Terminate,
    /// What proves who the client is.
    Proof(Bytes),
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    /// Nothing this side knows.
    Unknown(u8),
}

/// What a message is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Statement(String),
    Portal(String),
}

/// A message that breaks the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// Takes one whole message of at most so many bytes from the input, if there is one.
pub fn take(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Frontend>, Broken> {
    let Some(head) = input.get(..5) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(4..=bytes_max).contains(&length) {
        return Err(Broken("a message is longer than is taken, or has no length"));
    }
    if input.len() < 1 + length {
        return Ok(None);
    }
    let kind = head[0];
    let mut body = input.split_to(1 + length).freeze();
    body.advance(5);
    read(kind, Fields(body)).map(Some)
}

fn read(kind: u8, mut fields: Fields) -> Result<Frontend, Broken> {
    Ok(match kind {
        b'Q' => Frontend::Query(fields.text()?),
        b'P' => {
            let (name, sql) = (fields.text()?, fields.text()?);
            let types = fields.many(|fields| Ok(fields.int()?.cast_unsigned()))?;
            Frontend::Parse { name, sql, types }
        }
        b'B' => Frontend::Bind {
            portal: fields.text()?,
            statement: fields.text()?,
            formats: fields.many(Fields::short)?,
            values: fields.many(Fields::value)?,
            result_formats: fields.many(Fields::short)?,
        },
        b'D' => Frontend::Describe(fields.target()?),
        b'E' => Frontend::Execute { portal: fields.text()?, max_rows: fields.int()? },
        b'C' => Frontend::Close(fields.target()?),
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'p' => Frontend::Proof(fields.0),
        b'd' => Frontend::CopyData(fields.0),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(fields.text()?),
        other => Frontend::Unknown(other),
    })
}

/// The fields of one message.
struct Fields(Bytes);

impl Fields {
    fn text(&mut self) -> Result<String, Broken> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.0.split_to(end.ok_or(Broken("a text of a message has no end"))?);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| Broken("a text of a message is not UTF-8"))
    }

    fn short(&mut self) -> Result<i16, Broken> {
        self.0.try_get_i16().map_err(|_| Broken("a message is too short"))
    }

    fn int(&mut self) -> Result<i32, Broken> {
        self.0.try_get_i32().map_err(|_| Broken("a message is too short"))
    }

    /// A count of 16 bits, then so many of one thing.
    fn many<T>(
        &mut self,
        one: impl Fn(&mut Fields) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let count = self.short()?.cast_unsigned();
        (0..count).map(|_| one(self)).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, Broken> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(Some(self.0.split_to(length))),
            _ => Err(Broken("a value is longer than its message")),
        }
    }

    fn target(&mut self) -> Result<Target, Broken> {
        let kind = self.0.try_get_u8().map_err(|_| Broken("a message is too short"))?;
        match kind {
            b'S' => Ok(Target::Statement(self.text()?)),
            b'P' => Ok(Target::Portal(self.text()?)),
            _ => Err(Broken("a message is neither about a statement nor a portal")),
        }
    }
}

/// A column of an answer.
#[derive(Clone, Debug)]
pub struct FieldDescription<'a> {
    pub name: &'a str,
    pub oid: u32,
    pub size: i16,
    pub modifier: i32,
    pub format: i16,
}

/// Messages on their way to a client.
#[derive(Debug, Default)]
pub struct Backend {
    pub bytes: BytesMut,
}

impl Backend {
    /// Writes one message: its kind, its length, and what `body` writes.
    pub fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.bytes.put_u8(kind);
        let at = self.bytes.len();
        self.bytes.put_u32(0);
        body(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at).expect("a message is below 4 GiB");
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn authentication_ok(&mut self) {
        self.message(b'R', |body| body.put_i32(0));
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |body| {
            put_text(body, name);
            put_text(body, value);
        });
    }

    /// What the client is to prove itself by: 10, the mechanisms; 11 and 12, what it is told.
    pub fn authentication(&mut self, kind: i32, said: &[u8]) {
        self.message(b'R', |body| {
            body.put_i32(kind);
            body.put_slice(said);
        });
    }

    pub fn key(&mut self, process: i32, secret: i32) {
        self.message(b'K', |body| {
            body.put_i32(process);
            body.put_i32(secret);
        });
    }

    /// The highest minor version, and the options that are not known.
    pub fn negotiate(&mut self, options: &[String]) {
        self.message(b'v', |body| {
            body.put_i32(0);
            body.put_i32(i32::try_from(options.len()).unwrap_or(0));
            options.iter().for_each(|option| put_text(body, option));
        });
    }

    /// `status`: `I`, `T` or `E`, for no transaction, one, or one that failed.
    pub fn ready(&mut self, status: u8) {
        self.message(b'Z', |body| body.put_u8(status));
    }

    pub fn complete(&mut self, tag: &str) {
        self.message(b'C', |body| put_text(body, tag));
    }

    /// A message that is its kind alone.
    pub fn bare(&mut self, kind: u8) {
        self.message(kind, |_| {});
    }

    pub fn parameters(&mut self, oids: &[u32]) {
        self.message(b't', |body| {
            body.put_u16(u16::try_from(oids.len()).unwrap_or(u16::MAX));
            oids.iter().for_each(|oid| body.put_u32(*oid));
        });
    }

    pub fn row_description(&mut self, fields: &[FieldDescription<'_>]) {
        self.message(b'T', |body| {
            body.put_u16(u16::try_from(fields.len()).unwrap_or(u16::MAX));
            for field in fields {
                put_text(body, field.name);
                body.put_i32(0);
                body.put_i16(0);
                body.put_u32(field.oid);
                body.put_i16(field.size);
                body.put_i32(field.modifier);
                body.put_i16(field.format);
            }
        });
    }

    pub fn copy_in(&mut self, columns: usize, is_binary: bool) {
        self.message(b'G', |body| {
            body.put_u8(u8::from(is_binary));
            body.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
            (0..columns).for_each(|_| body.put_i16(i16::from(is_binary)));
        });
    }

    pub fn error(&mut self, fault: &Fault) {
        self.fields(b'E', fault);
    }

    pub fn notice(&mut self, fault: &Fault) {
        self.fields(b'N', fault);
    }

    fn fields(&mut self, kind: u8, fault: &Fault) {
        self.message(kind, |body| {
            let place = fault.place.map(|place| place.to_string());
            let fields = [
                (b'S', Some(fault.severity)),
                (b'V', Some(fault.severity)),
                (b'C', Some(fault.state)),
                (b'M', Some(fault.message.as_str())),
                (b'P', place.as_deref()),
            ];
            for (field, text) in fields {
                if let Some(text) = text {
                    body.put_u8(field);
                    put_text(body, text);
                }
            }
            body.put_u8(0);
        });
    }
}

/// What an error or a notice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub severity: &'static str,
    pub state: &'static str,
    pub message: String,
    /// The letter of the statement, counted from 1.
    pub place: Option<usize>,
}

impl Fault {
    pub fn error(state: &'static str, message: impl Into<String>) -> Fault {
        Fault { severity: "ERROR", state, message: message.into(), place: None }
    }

    pub fn fatal(state: &'static str, message: impl Into<String>) -> Fault {
        Fault { severity: "FATAL", ..Fault::error(state, message) }
    }

    pub fn notice(message: impl Into<String>) -> Fault {
        Fault { severity: "NOTICE", ..Fault::error("00000", message) }
    }
}

fn put_text(body: &mut BytesMut, text: &str) {
    // A zero byte would end the text, and the message with it.
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<Frontend>, Broken> {
        take(&mut BytesMut::from(bytes), MESSAGE_BYTES_MAX)
    }

    #[test]
    fn whole_messages_are_taken() {
        assert_eq!(parse(b"Q\0\0\0\x0aSELE"), Ok(None));
        let query = Frontend::Query("SELEC".into());
        assert_eq!(parse(b"Q\0\0\0\x0aSELEC\0").unwrap(), Some(query));
        let bind = b"B\0\0\0\x15p\0s\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0";
        let wanted = Frontend::Bind {
            portal: "p".into(),
            statement: "s".into(),
            formats: vec![0],
            values: vec![Some(Bytes::from_static(b"x"))],
            result_formats: vec![],
        };
        assert_eq!(parse(bind).unwrap(), Some(wanted));
    }

    #[test]
    fn lengths_are_not_believed() {
        assert!(parse(b"Q\xff\xff\xff\xff").is_err());
        assert!(parse(b"Q\0\0\0\x03").is_err());
        assert!(parse(b"Q\0\0\0\x06ab").is_err());
        assert!(parse(b"B\0\0\0\x10p\0s\0\0\0\x7f\xff\0\0\0\x01").is_err());
    }

    #[test]
    fn every_short_message_is_refused_or_taken() {
        // No kind of message with any cut body may panic.
        let body = b"p\0s\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0\0\0\0\0";
        for kind in 0..=255 {
            for length in 0..body.len() {
                let mut bytes = vec![kind];
                bytes.extend(u32::try_from(length + 4).unwrap().to_be_bytes());
                bytes.extend(&body[..length]);
                let _ = parse(&bytes);
            }
        }
    }
}
