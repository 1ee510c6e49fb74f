//! What lies in maildrops, and beside them.

use maildrop::fuzz;

use super::{Target, literal};

/// An mbox is cut where a slow and obvious reader cuts it, with the same sizes and unique-ids, whatever size is read at a time.
pub const MBOX_SCAN: Target = Target {
    name: "mbox-scan",
    run: fuzz::mbox_scan,
    pieces: mbox,
    max_octets: 4096,
};

fn mbox() -> Vec<Vec<u8>> {
    literal(&[
        b"From ",
        b"From x\n",
        b"\n\nFrom ",
        b"\n\nFrom y\n",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"Date: 1\n",
        b"dATE: ",
        b"Received: 2\n",
        b"RECEIVED:",
        b"\t3\n",
        b"Delivered-To: a\n",
        b"Message-ID: <",
        b"X-Delivery-ID:",
        b"x-delivery-id:",
        b" ",
        b">From ",
        b"From",
        b"Fro",
        b"Subject: x\n",
        b"text",
    ])
}
