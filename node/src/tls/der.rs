//! What certificates and revocation lists say, read from their DER form.
//!
//! Reads only, and trusts nothing: whether a certificate was signed by whom it says is found out
//! by the TLS library before anything read here counts. What is not as it should be is `None`.

use std::net::IpAddr;

/// Tags of X.690.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, `[3]`: the version and the extensions of a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// Object identifiers, without tag and length.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its number, as its issuer counts.
    pub serial: Vec<u8>,
    /// Who signed it, as DER.
    pub issuer: Vec<u8>,
    /// Whose it is, as DER.
    pub subject: Vec<u8>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// From when on it counts, in seconds since 1970.
    pub starts: i64,
    /// Until when.
    pub ends: i64,
    /// Host names.
    pub hosts: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// What names its key.
    pub key_id: Option<Vec<u8>>,
    /// The kind of its key, without tag and length.
    pub key_kind: Vec<u8>,
    /// Its public key.
    pub key: Vec<u8>,
}

/// What a revocation list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList {
    /// Whose certificates, as DER.
    pub issuer: Vec<u8>,
    /// Their numbers.
    pub serials: Vec<Vec<u8>>,
    /// What is signed.
    pub signed: Vec<u8>,
    /// How, without tag and length.
    pub signature_kind: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// One value.
#[derive(Clone, Copy)]
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

/// Values in a row.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of several bytes do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || 4 < count {
                return None;
            }
            let (bytes, rest) = rest.split_at_checked(count)?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value { tag, content, whole })
    }

    fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next().filter(|value| value.tag == tag)
    }

    fn take_if(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut ahead = *self;
        let value = ahead.next().filter(|value| value.tag == tag)?;
        *self = ahead;
        Some(value)
    }
}

impl Certificate {
    /// Reads one.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let mut outer = Reader(Reader(der).expect(SEQUENCE)?.content);
        let mut fields = Reader(outer.expect(SEQUENCE)?.content);
        fields.take_if(VERSION);
        let serial = number(fields.expect(INTEGER)?.content);
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.whole.to_vec();
        let mut validity = Reader(fields.expect(SEQUENCE)?.content);
        let (starts, ends) = (seconds(validity.next()?)?, seconds(validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let mut key = Reader(fields.expect(SEQUENCE)?.content);
        let key_kind = key.expect(SEQUENCE)?.content.to_vec();
        let key = bits(key.expect(BIT_STRING)?)?;
        let mut read = Certificate {
            serial,
            issuer,
            subject: subject.whole.to_vec(),
            common_name: common_name(subject.content),
            starts,
            ends,
            key_kind,
            key,
            ..Certificate::default()
        };
        while let Some(field) = fields.next() {
            if field.tag == EXTENSIONS {
                read.extensions(Reader(field.content).expect(SEQUENCE)?.content)?;
            }
        }
        Some(read)
    }

    fn extensions(&mut self, extensions: &[u8]) -> Option<()> {
        let mut extensions = Reader(extensions);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?.content);
            let kind = extension.expect(OID)?.content;
            extension.take_if(BOOLEAN);
            let value = extension.expect(OCTET_STRING)?.content;
            match kind {
                ALTERNATIVE_NAMES => self.names(Reader(value).expect(SEQUENCE)?.content)?,
                KEY_ID => self.key_id = Some(Reader(value).expect(OCTET_STRING)?.content.into()),
                BASIC_CONSTRAINTS => {
                    let mut constraints = Reader(Reader(value).expect(SEQUENCE)?.content);
                    let may_sign = constraints.take_if(BOOLEAN);
                    self.is_authority = may_sign.is_some_and(|it| it.content == [0xff]);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn names(&mut self, names: &[u8]) -> Option<()> {
        const HOST: u8 = 0x82;
        const URI: u8 = 0x86;
        const ADDRESS: u8 = 0x87;
        let mut names = Reader(names);
        while !names.0.is_empty() {
            let name = names.next()?;
            let text = || std::str::from_utf8(name.content).ok().map(str::to_owned);
            match name.tag {
                HOST => self.hosts.push(text()?),
                URI => self.uris.push(text()?),
                ADDRESS => {
                    let four = <[u8; 4]>::try_from(name.content).map(IpAddr::from);
                    let sixteen = <[u8; 16]>::try_from(name.content).map(IpAddr::from);
                    self.addresses.push(four.or(sixteen).ok()?);
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Its number as people read it.
    pub fn serial_text(&self) -> String {
        self.serial.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl RevocationList {
    /// Reads one.
    pub fn read(der: &[u8]) -> Option<RevocationList> {
        let mut outer = Reader(Reader(der).expect(SEQUENCE)?.content);
        let signed = outer.expect(SEQUENCE)?;
        let signature_kind = outer.expect(SEQUENCE)?.content.to_vec();
        let signature = bits(outer.expect(BIT_STRING)?)?;
        let mut fields = Reader(signed.content);
        fields.take_if(INTEGER);
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.whole.to_vec();
        seconds(fields.next()?)?;
        if fields.take_if(UTC_TIME).is_none() {
            fields.take_if(GENERALIZED_TIME);
        }
        let mut serials = Vec::new();
        if let Some(revoked) = fields.take_if(SEQUENCE) {
            let mut revoked = Reader(revoked.content);
            while !revoked.0.is_empty() {
                let mut one = Reader(revoked.expect(SEQUENCE)?.content);
                serials.push(number(one.expect(INTEGER)?.content));
            }
        }
        let signed = signed.whole.to_vec();
        Some(RevocationList { issuer, serials, signed, signature_kind, signature })
    }
}

/// Without the zero that keeps a number positive.
fn number(content: &[u8]) -> Vec<u8> {
    match content {
        [0, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => content.to_vec(),
    }
}

fn bits(value: Value<'_>) -> Option<Vec<u8>> {
    match value.content {
        [0, bits @ ..] => Some(bits.to_vec()),
        _ => None,
    }
}

/// The last one counts, as it is the most particular.
fn common_name(subject: &[u8]) -> Option<String> {
    let (mut sets, mut found) = (Reader(subject), None);
    while let Some(set) = sets.take_if(SET) {
        let mut pairs = Reader(set.content);
        while let Some(pair) = pairs.take_if(SEQUENCE) {
            let mut pair = Reader(pair.content);
            if pair.expect(OID)?.content == COMMON_NAME {
                let text = std::str::from_utf8(pair.next()?.content).ok()?;
                found = Some(text.to_owned()).filter(|text| !text.is_empty());
            }
        }
    }
    found
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` and `YYYYMMDDHHMMSSZ`.
fn seconds(value: Value<'_>) -> Option<i64> {
    let text = std::str::from_utf8(value.content).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match value.tag {
        UTC_TIME if digits.len() == 12 => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |place: usize| rest[2 * place..2 * place + 2].parse::<i64>().ok();
    let month = u8::try_from(part(0)?).ok()?;
    let day = u8::try_from(part(1)?).ok()?;
    let month = time::Month::try_from(month).ok()?;
    let date = time::Date::from_calendar_date(i32::try_from(year).ok()?, month, day).ok()?;
    let days = i64::from(date.to_julian_day() - time::UtcDateTime::UNIX_EPOCH.to_julian_day());
    Some(days * 86_400 + part(2)? * 3_600 + part(3)? * 60 + part(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_nonsense_is_not() {
        let time =
            |tag, text: &'static str| seconds(Value { tag, content: text.as_bytes(), whole: &[] });
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "261122134507Z"), Some(1_795_355_107));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(UTC_TIME, "261322134507Z"), None);
        assert_eq!(time(UTC_TIME, "26112213450Z"), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let whole = Certificate::read(&der).unwrap();
        assert_eq!(whole.hosts, ["a.example"]);
        for end in 0..der.len() {
            assert_eq!(Certificate::read(&der[..end]), None, "cut at {end}");
            let mut changed = der.clone();
            changed[end] ^= 0x81;
            let _ = Certificate::read(&changed);
            let _ = RevocationList::read(&changed);
        }
    }
}
