//! All decoding waits for a memory reservation and releases it.

use std::path::Path;
use std::thread;

use super::super::{TakeFrame, VideoInfo};
use super::*;

fn file(name: &str) -> Arc<MediaFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media/files");
    Arc::new(MediaFile::new(std::fs::read(folder.join(name)).expect("a golden")))
}

/// Reads black frames, for which memory must have been reserved.
#[derive(Debug)]
struct Black(&'static MemoryBudget);

impl VideoReader for Black {
    fn probe(&self, _: &[u8]) -> Result<VideoInfo, MediaError> {
        Ok(VideoInfo { frames: 8, fps: 1.0, width: 64, height: 48 })
    }

    fn read(
        &self,
        _: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        let frame = vec![0; info.width * info.height * 3];
        assert!(self.0.held() > frame.len(), "room for a frame");
        frames.iter().try_for_each(|&at| take(at, &frame))
    }
}

#[test]
fn all_that_is_decoded_waits_for_room_and_gives_it_back() {
    static HERE: MemoryBudget = MemoryBudget::new();
    let reader: Option<Arc<dyn VideoReader>> = Some(Arc::new(Black(&HERE)));
    // Less than anything needs: files are decoded one at a time, and the frames of a list do not
    // deadlock.
    let options = MediaOptions { decode_bytes_max: 1, reader, ..MediaOptions::default() };
    let mut preprocessor = Preprocessor::new(&options, 32);
    preprocessor.budget = &HERE;
    let (image, gif, webp) = (file("rgba-16.png"), file("animated.gif"), file("animated.webp"));
    let film = Arc::new(MediaFile::new(b"film".to_vec()));
    let video = |source| preprocessor.video(&Video { source, fps: None, frames_max: None }).is_ok();
    let works: [&(dyn Fn() -> bool + Sync); 5] = [
        &|| preprocessor.image(&image).is_ok(),
        &|| video(VideoSource::Frames(vec![image.clone(); 5])),
        &|| video(VideoSource::File(gif.clone())),
        &|| video(VideoSource::File(webp.clone())),
        &|| video(VideoSource::File(film.clone())),
    ];
    for (number, work) in works.into_iter().enumerate() {
        let held = HERE.take(1, 1);
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while HERE.waiting() == 0 {
                assert!(!work.is_finished(), "{number} took no room");
                thread::yield_now();
            }
            drop(held);
            assert!(work.join().expect("no panic"), "{number}");
        });
        assert_eq!(HERE.held(), 0, "{number}");
    }
}
