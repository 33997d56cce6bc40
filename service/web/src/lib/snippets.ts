/** The very call that was made, for other languages to make. */

import type { Call } from './api';

const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(call: Call, origin: string, keyed = false): string {
  const lines = [`curl -X ${call.method} ${shell(origin + call.path)}`];
  if (keyed) lines.push(`  -H "Authorization: Bearer $NEUROND_API_KEY"`);
  if (call.body !== undefined) {
    lines.push(`  -H 'Content-Type: application/json'`, `  -d ${shell(JSON.stringify(call.body))}`);
  }
  return lines.join(' \\\n');
}

export function python(call: Call, origin: string, keyed = false): string {
  const body = call.body === undefined ? '' : `, json=json.loads(${JSON.stringify(JSON.stringify(call.body))})`;
  const key = keyed ? `, headers={"Authorization": "Bearer " + os.environ["NEUROND_API_KEY"]}` : '';
  return [
    'import json',
    ...(keyed ? ['import os'] : []),
    'import httpx',
    '',
    `answer = httpx.request(${JSON.stringify(call.method)}, ${JSON.stringify(origin + call.path)}${body}${key})`,
    'print(answer.json())',
  ].join('\n');
}

export function javascript(call: Call, origin: string, keyed = false): string {
  const options = [`method: ${JSON.stringify(call.method)}`];
  const key = keyed ? ["Authorization: 'Bearer ' + process.env.NEUROND_API_KEY"] : [];
  if (call.body !== undefined) key.push(`'Content-Type': 'application/json'`);
  if (key.length) options.push(`headers: { ${key.join(', ')} }`);
  if (call.body !== undefined) {
    options.push(
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
