use futures_util::FutureExt as _;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// Whether it is stalled now.
fn is_stalled(progress: &SendProgress) -> bool {
    progress.stalled(LIMIT).now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_or_not_written_is_stalled_after_the_limit() {
    let progress = SendProgress::new();
    tokio::time::advance(LIMIT * 2).await;
    assert!(!is_stalled(&progress), "nothing is on its way");
    progress.answer_begins(None);
    tokio::time::advance(LIMIT - Duration::from_secs(1)).await;
    assert!(!is_stalled(&progress));
    progress.asked();
    tokio::time::advance(LIMIT * 2).await;
    assert!(!is_stalled(&progress), "the answer is not ready; the client is not at fault");
    progress.handed();
    tokio::time::advance(LIMIT - Duration::from_secs(1)).await;
    assert!(!is_stalled(&progress));
    progress.answer_ends();
    tokio::time::advance(LIMIT).await;
    assert!(is_stalled(&progress), "the last chunk is not written");
    progress.written();
    tokio::time::advance(LIMIT * 2).await;
    assert!(!is_stalled(&progress));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_moves_has_a_deadline_all_the_same() {
    let progress = SendProgress::new();
    progress.answer_begins(Some(Instant::now() + LIMIT * 2));
    for second in 0..60 {
        assert!(!is_stalled(&progress), "after {second} s");
        progress.asked();
        progress.handed();
        progress.written();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(is_stalled(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_is_dropped_and_others_run_on() {
    let (tell, mut told) = tokio::sync::mpsc::channel::<()>(1);
    let stalls = tokio::spawn(watched(LIMIT, async move {
        SendProgress::current().answer_begins(None);
        std::future::pending::<()>().await;
        drop(tell);
    }));
    let waits = tokio::spawn(watched(LIMIT, async {
        tokio::time::sleep(LIMIT * 4).await;
    }));
    stalls.await.expect("no panic");
    assert!(told.recv().await.is_none(), "what the stream held is dropped");
    assert!(!waits.is_finished());
    waits.await.expect("no panic");
}
