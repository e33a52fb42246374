// The start page: asks for a room's name and opens the room.

import { insecureReason } from '/_rialto/media.js';

const adjectives = ['amber', 'brisk', 'calm', 'clear', 'deep', 'early', 'gentle', 'light', 'quiet', 'swift'];
const nouns = ['arch', 'barge', 'bridge', 'canal', 'harbour', 'lagoon', 'market', 'quay', 'river', 'tide'];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const room = document.getElementById('room');
const name = document.getElementById('name');

room.value = `${pick(adjectives)}-${pick(nouns)}-${Math.floor(Math.random() * 90 + 10)}`;
room.select();
name.value = localStorage.getItem('rialto.name') ?? '';

const reason = insecureReason();
if (reason) {
  const notice = document.getElementById('insecure');
  notice.textContent = reason;
  notice.hidden = false;
}

document.getElementById('join').addEventListener('submit', (event) => {
  event.preventDefault();
  localStorage.setItem('rialto.name', name.value.trim());
  location.assign(`/${encodeURIComponent(room.value.trim())}`);
});
