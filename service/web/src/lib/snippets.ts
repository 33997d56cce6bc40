/** The very call that was made, for other languages to make. */

import type { Call } from './api';

const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(call: Call, origin: string): string {
  const lines = [`curl -X ${call.method} ${shell(origin + call.path)}`];
  if (call.body !== undefined) {
    lines.push(`  -H 'Content-Type: application/json'`, `  -d ${shell(JSON.stringify(call.body))}`);
  }
  return lines.join(' \\\n');
}

export function python(call: Call, origin: string): string {
  const body = call.body === undefined ? '' : `, json=json.loads(${JSON.stringify(JSON.stringify(call.body))})`;
  return [
    'import json',
    'import httpx',
    '',
    `answer = httpx.request(${JSON.stringify(call.method)}, ${JSON.stringify(origin + call.path)}${body})`,
    'print(answer.json())',
  ].join('\n');
}

export function javascript(call: Call, origin: string): string {
  const options = [`method: ${JSON.stringify(call.method)}`];
  if (call.body !== undefined) {
    options.push(
      `headers: { 'Content-Type': 'application/json' }`,
      `body: JSON.stringify(${JSON.stringify(call.body)})`,
    );
  }
  return [
    `const answer = await fetch(${JSON.stringify(origin + call.path)}, {`,
    ...options.map((option) => `  ${option},`),
    '});',
    'console.log(await answer.json());',
  ].join('\n');
}
