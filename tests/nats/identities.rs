//! Who servers and gateways are to each other: certificates of an authority of a test's own, and credentials of users.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};

/// An authority that signs the certificates of servers.
pub struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    certificate: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, in a file of `folder`.
    pub fn file(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, name, &self.certificate)
    }

    /// What a server on loopback says in its configuration to show a certificate.
    pub fn tls_block(&self, folder: &Path) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = write(folder, "node.pem", &certificate.pem());
        let key = write(folder, "node.key", &key.serialize_pem());
        format!("\ntls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n")
    }
}

/// An operator with one account, whose users servers let in without knowing them.
pub struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// What a server says in its configuration to let users of the account in.
    pub fn block(&self) -> String {
        let operator = signed(&self.operator, &self.operator, r#"{"type":"operator","version":2}"#);
        let of_account = |account: &KeyPair| {
            let limits =
                r#""subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1"#;
            let jetstream = match account.public_key() == self.system.public_key() {
                true => "",
                false => r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#,
            };
            let claims = format!(r#"{{"limits":{{{limits}{jetstream}}},"type":"account","version":2}}"#);
            format!("{}: {}", account.public_key(), signed(&self.operator, account, &claims))
        };
        let (account, system) = (of_account(&self.account), of_account(&self.system));
        let system_key = self.system.public_key();
        format!(
            "\noperator: {operator}\nsystem_account: {system_key}\nresolver: MEMORY\n\
             resolver_preload: {{\n{account}\n{system}\n}}\n"
        )
    }

    /// The credentials of a user of the account, in a file of `folder`.
    pub fn credentials(&self, folder: &Path, name: &str) -> PathBuf {
        let user = KeyPair::new_user();
        let claims = r#"{"pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"type":"user","version":2}"#;
        let token = signed(&self.account, &user, claims);
        let seed = user.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        write(folder, name, &text)
    }
}

/// What `issuer` says of `subject`, as a token of NATS.
fn signed(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let (issued_by, about) = (issuer.public_key(), subject.public_key());
    let payload = format!(
        r#"{{"jti":"test","iat":1700000000,"iss":"{issued_by}","name":"test","sub":"{about}","nats":{claims}}}"#
    );
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let content = format!("{}.{}", encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#), encode(payload.as_bytes()));
    let signature = issuer.sign(content.as_bytes()).unwrap();
    format!("{content}.{}", encode(&signature))
}

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
