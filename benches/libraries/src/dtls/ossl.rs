//! OpenSSL over buffers.

use std::io::{self, Read, Write};

use dimpl::certificate::generate_self_signed_certificate;
use openssl::{
    pkey::PKey,
    ssl::{
        Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream,
        SslVerifyMode, SslVersion,
    },
    x509::X509,
};

use super::{CLIENT, LABEL, MATERIAL, ends::End};

/// What all sessions of OpenSSL share.
pub struct OpenSslShared {
    contexts: [SslContext; 2],
}

impl OpenSslShared {
    /// The bridge's settings, P-256 only.
    pub fn new() -> Self {
        let contexts = [0, 1].map(|_| {
            let pair = generate_self_signed_certificate().expect("a certificate");
            let certificate = X509::from_der(&pair.certificate).expect("a certificate");
            let key = PKey::private_key_from_der(&pair.private_key).expect("a key");
            let mut context = SslContext::builder(SslMethod::dtls()).expect("a context");
            context.set_min_proto_version(Some(SslVersion::DTLS1_2)).expect("DTLS 1.2");
            context.set_certificate(&certificate).expect("a certificate");
            context.set_private_key(&key).expect("its key");
            context.set_cipher_list("ECDHE+AESGCM").expect("suites");
            context.set_groups_list("P-256").expect("a group");
            context.set_tlsext_use_srtp("SRTP_AEAD_AES_256_GCM").expect("a profile");
            let required = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
            context.set_verify_callback(required, |_, _| true);
            context.set_session_cache_mode(SslSessionCacheMode::OFF);
            context.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
            context.set_mode(SslMode::RELEASE_BUFFERS);
            context.build()
        });
        Self { contexts }
    }
}

/// An end of OpenSSL.
pub struct OpenSsl {
    stream: SslStream<Wire>,
    keys: Option<Vec<u8>>,
}

#[derive(Default)]
struct Wire {
    received: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let datagram = self.received.take().ok_or(io::ErrorKind::WouldBlock)?;
        buf[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.sent.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenSsl {
    /// A client or a server.
    pub fn new(shared: &OpenSslShared, side: usize) -> Self {
        let mut ssl = Ssl::new(&shared.contexts[side]).expect("a session");
        ssl.set_mtu(1200).expect("an MTU");
        if side == CLIENT {
            ssl.set_connect_state();
        } else {
            ssl.set_accept_state();
        }
        let stream = SslStream::new(ssl, Wire::default()).expect("a stream");
        let mut this = Self { stream, keys: None };
        if side == CLIENT {
            this.advance();
        }
        this
    }

    fn advance(&mut self) {
        match self.stream.do_handshake() {
            Ok(()) if self.keys.is_none() => {
                let mut keys = vec![0; MATERIAL];
                let ssl = self.stream.ssl();
                ssl.export_keying_material(&mut keys, LABEL, None).expect("keys");
                self.keys = Some(keys);
            }
            Ok(()) => {}
            Err(error) => assert!(error.ssl_error().is_none(), "{error}"),
        }
    }
}

impl End for OpenSsl {
    fn poll(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.stream.get_mut().sent)
    }

    fn handle(&mut self, datagram: &[u8]) {
        self.stream.get_mut().received = Some(datagram.to_vec());
        self.advance();
    }

    fn keys(&self) -> Option<&[u8]> {
        self.keys.as_deref()
    }
}
