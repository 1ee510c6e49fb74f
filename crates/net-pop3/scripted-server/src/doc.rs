//! Sessions for examples: logged in to [`Mailbox::sample`](crate::Mailbox::sample).

/// A session of the blocking driver.
#[macro_export]
macro_rules! blocking_session {
    () => {
        (|| -> Result<_, net_pop3::Error> {
            let server = $crate::Mailbox::sample().start();
            let session = net_pop3::blocking::Pop3::builder()
                .host("127.0.0.1")
                .port(server.port())
                .security(net_pop3::Security::Plain)
                .connect()?
                .login(&net_pop3::Credentials::password("mrose", "tanstaaf"))?;
            Ok(session)
        })()
    };
}

/// A session of the tokio driver; to be awaited.
#[macro_export]
macro_rules! tokio_session {
    () => {
        (async || -> Result<_, net_pop3::Error> {
            let server = $crate::Mailbox::sample().start();
            let session = net_pop3::tokio::Pop3::builder()
                .host("127.0.0.1")
                .port(server.port())
                .security(net_pop3::Security::Plain)
                .connect()
                .await?
                .login(&net_pop3::Credentials::password("mrose", "tanstaaf"))
                .await?;
            Ok(session)
        })()
    };
}

pub use crate::{blocking_session as blocking, tokio_session as tokio};
